"""A web service that answers with a trained run: ``RUN=runs/digits uvicorn serve:app`` in this folder."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import Body, FastAPI, File, UploadFile
from starlette.datastructures import State

import ptb

MOST = 256  # inputs in one request


def create_app(run: str) -> FastAPI:
    """The service for one run; its model is loaded once and shared by the threads that answer."""
    model = ptb.load(run)
    torch.set_num_threads(model.threads)  # requests run beside each other: more threads for each would be in their way
    app = FastAPI(title=f"ptb {ptb.__version__}: {Path(run).name}")
    app.state = State({"model": model})

    @app.get("/")
    def about() -> dict[str, Any]:
        return {"step": model.step, "inputs": model.spec.inputs, "classes": model.class_names}

    @app.post("/rows")
    def rows(rows: Annotated[list[dict[str, Any]], Body(min_length=1, max_length=MOST)]) -> Sequence[dict[str, Any]]:
        return model.predict(rows)

    @app.post("/pictures")
    def pictures(files: Annotated[list[UploadFile], File(min_length=1, max_length=MOST)]) -> Sequence[dict[str, Any]]:
        # As files, they are read just as those of the training were; their own names are not used on the disk.
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{number}{Path(each.filename or '').suffix}") for number, each in enumerate(files)]
            for path, each in zip(paths, files, strict=True):
                path.write_bytes(each.file.read())
            answers = model.predict(paths)
        return [answer | {"input": each.filename} for answer, each in zip(answers, files, strict=True)]

    return app


def __getattr__(name: str) -> FastAPI:
    if name != "app":
        raise AttributeError(name)
    return create_app(os.environ["RUN"])
