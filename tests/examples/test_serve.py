"""The web service of ``examples/serve``, where FastAPI is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ptb
from ptb import RunConfig

pytest.importorskip("fastapi", exc_type=ImportError)
pytest.importorskip("python_multipart")
testclient = pytest.importorskip("fastapi.testclient", exc_type=ImportError)
pytest.importorskip("pandas")

SERVE = Path(__file__).parents[2] / "examples" / "serve"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what FastAPI is built upon


def service(run):
    spec = importlib.util.spec_from_file_location("serve", SERVE / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return testclient.TestClient(module.create_app(str(run)))


@pytest.fixture(scope="module")
def table(tmp_path_factory, built_in):
    folder = tmp_path_factory.mktemp("table")
    rows = "".join(f"{number},{'red' if number % 2 else 'blue'},{3 * number}\n" for number in range(60))
    (folder / "table.csv").write_text(f"size,colour,price\n{rows}")
    dataset = {"name": "csv", "path": str(folder / "table.csv"), "target": "price", "kind": "real"}
    config = RunConfig(model={"name": "mlp"}, dataset=dataset, trainer={"epochs": 2})
    ptb.train(config, registry=built_in, output=folder / "run")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, built_in):
    folder = tmp_path_factory.mktemp("pictures")
    script = SERVE.parent / "digit_pictures.py"
    subprocess.run([sys.executable, script, folder / "all"], check=True, capture_output=True)
    dataset = {"name": "image-folder", "root": str(folder / "all"), "colour": "grey", "size": 8}
    config = RunConfig(model={"name": "mlp"}, dataset=dataset, trainer={"epochs": 2})
    ptb.train(config, registry=built_in, output=folder / "run")
    return folder


def test_it_answers_rows_as_the_model_does(table):
    client, rows = service(table / "run"), [{"size": 5, "colour": "red"}, {"size": "many", "colour": "red"}]
    answer = client.post("/rows", json=rows)
    assert answer.status_code == 200
    assert answer.json() == json.loads(json.dumps(ptb.load(table / "run").predict(rows)))
    assert ["error" in row for row in answer.json()] == [False, True]


def test_it_answers_pictures_as_the_model_does(pictures):
    client, files = service(pictures / "run"), sorted((pictures / "all" / "7").iterdir())[:3]
    sent = [("files", (file.name, file.read_bytes())) for file in files]
    answer = client.post("/pictures", files=[*sent, ("files", ("../x.png", b"no picture"))]).json()
    wanted = [
        {**row, "input": file.name} for row, file in zip(ptb.load(pictures / "run").predict(files), files, strict=True)
    ]
    assert answer[:3] == json.loads(json.dumps(wanted))
    assert answer[3]["input"] == "../x.png"
    assert "error" in answer[3]
    about = client.get("/").json()
    assert (about["inputs"], about["classes"]) == ("image", [*"0123456789"])


def test_several_requests_beside_each_other_get_their_own_answers(table):
    client, model = service(table / "run"), ptb.load(table / "run")
    rows = [{"size": size, "colour": "red"} for size in range(40)]
    wanted = [model.predict(row)[0]["prediction"] for row in rows]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: client.post("/rows", json=[row]).json()[0]["prediction"], rows))
    assert answers == pytest.approx(wanted, rel=1e-6)
    assert len(set(answers)) == 40


@pytest.mark.parametrize("body", [[], [{}] * 257, {"size": 1}, ["size"]])
def test_what_is_no_list_of_rows_is_refused(table, body):
    assert service(table / "run").post("/rows", json=body).status_code == 422


@pytest.mark.slow
def test_the_load_test_reports_three_rates(table):
    pytest.importorskip("uvicorn")
    command = [sys.executable, SERVE / "load_test.py", table / "run", table / "table.csv", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    rates = [float(line.split()[-2].replace(",", "")) for line in done.stdout.splitlines()]
    assert len(rates) == 3
    assert min(rates) > 0
