"""Requests a second over loopback, beside the model alone: ``python load_test.py RUN FILE [SECONDS]``.

FILE is a picture, or a table whose first row is sent. One input is in each request, 8 clients wait for their answers.
"""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import torch

import ptb

CLIENTS = 8


def request_of(file: Path) -> tuple[str, dict[str, str], bytes, Any]:
    """Path, headers and body of a request with one input, and the input itself."""
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            row = next(csv.DictReader(stream))
        return "/rows", {"Content-Type": "application/json"}, json.dumps([row]).encode(), row
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'
    body = head.encode() + file.read_bytes() + b"\r\n--x--\r\n"
    return "/pictures", {"Content-Type": "multipart/form-data; boundary=x"}, body, file


def rate(call: Callable[[], object], seconds: float) -> int:
    """How often it is called in that time."""
    done, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        call()
        done += 1
    return done


def client(port: int, path: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
    """One connection that asks, waits and asks again; returns its answers."""
    connection = HTTPConnection("127.0.0.1", port)

    def ask() -> None:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200 or "error" in json.loads(text)[0]:
            raise SystemExit(f"the service answers {answer.status}: {text.decode()}")

    return rate(ask, seconds)


def main(run: str, file: str, seconds: float = 5.0) -> None:
    """Measure, and print a line for each way."""
    path, headers, body, source = request_of(Path(file))
    model = ptb.load(run)
    torch.set_num_threads(model.threads)
    inputs = model.collated([next(iter(model.preprocessor.read([source]))).inputs])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "serve:app", "--port", str(port), "--log-level", "warning"]
    environment = {**os.environ, "RUN": str(Path(run).resolve())}
    service = subprocess.Popen(command, cwd=Path(__file__).parent, env=environment)
    try:
        while True:
            try:
                client(port, path, headers, body, 0.5)
                break
            except ConnectionRefusedError:
                if service.poll() is not None:
                    raise SystemExit("the service does not start") from None
                time.sleep(0.2)
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = sum(pool.map(lambda _: client(port, path, headers, body, seconds), range(CLIENTS)))
    finally:
        service.terminate()
        service.wait()
    print(f"over loopback, {CLIENTS} clients  {answers / seconds:8,.0f} requests/s")
    print(f"model.predict, one thread  {rate(lambda: model.predict(source), seconds) / seconds:8,.0f} inputs/s")
    print(f"the bare model, one thread {rate(lambda: model.scores(inputs), seconds) / seconds:8,.0f} inputs/s")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))
