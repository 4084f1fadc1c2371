from judgeflow.cli import main

main()
