#!/bin/sh
# The README's first run in a temporary folder: pairs with known answers, a local judge, two runs over one verdict database.
set -eu

folder=$(mktemp -d)
cd "$folder"
cleanup() {
    kill -INT "$judge" 2>/dev/null || true
    wait "$judge" 2>/dev/null || true
    rm -rf "$folder"
}

python -m judgeflow.testing.pairs 200 > pairs.jsonl
judgeflow fake-judge --pairs pairs.jsonl --accuracy 0.9 --position-bias 0.2 --latency uniform:0.2:0.6 --port 0 2> judge.log &
judge=$!
trap cleanup EXIT INT TERM

until address=$(sed -n 's/.*\(http:[^ ]*\).*/\1/p' judge.log) && [ -n "$address" ]; do
    kill -0 "$judge" 2>/dev/null || { cat judge.log >&2; exit 1; }
    sleep 0.1
done
cat > judgeflow.toml <<TOML
[judge]
base_url = "$address"
id = "demo judge"
model = "fake-judge"

[routing]
policy = "always"

[log]
path = "judgeflow.log"
TOML

echo "200 pairs with known answers; a local judge that is right 90 % of the time and prefers the first response in 20 %."
echo
echo "\$ judgeflow route pairs.jsonl --out outcomes.jsonl"
judgeflow route pairs.jsonl --out outcomes.jsonl
echo
echo "The same command again: every verdict is in the database, nothing is asked."
echo
echo "\$ judgeflow route pairs.jsonl --out outcomes.jsonl"
judgeflow route pairs.jsonl --out outcomes.jsonl
echo
echo "\$ judgeflow db check"
judgeflow db check
