"""One command from an object to objects: `penstock run s3://… --out s3://…`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.fs as fs

from ..jobs.moto_store import CREDENTIALS, s3_server


def test_run_reads_rows_from_s3_and_brings_them_back_there(tmp_path: Path) -> None:
    with s3_server() as endpoint:
        files = fs.S3FileSystem(
            endpoint_override=endpoint,
            access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region=CREDENTIALS["AWS_REGION"],
            allow_bucket_creation=True,
        )
        files.create_dir("e2e")
        with files.open_output_stream("e2e/in/rows.jsonl") as stream:
            for number in range(100):
                stream.write(json.dumps({"text": f"row {number}"}).encode() + b"\n")
        command = [sys.executable, "-m", "penstock.api.cli", "run", "s3://e2e/in/rows.jsonl"]
        command += ["--prompt", "{{ row.text }}", "-m", "fake:tokens=4"]
        command += ["--out", "s3://e2e/out", "--data", str(tmp_path / "data"), "-o", "json"]
        environ = {**os.environ, **CREDENTIALS, "PENSTOCK_S3_ENDPOINT": endpoint}
        run = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        job = json.loads(run.stdout)
        assert job["status"] == "completed"
        assert job["output"]["path"] == f"s3://e2e/out/{job['id']}"
        assert job["output"]["path"] + "/rows/*.parquet" in run.stderr
        rows = ds.dataset(f"e2e/out/{job['id']}/rows", filesystem=files).to_table()
        assert sorted(rows["row_index"].to_pylist()) == list(range(100))
        assert sorted(rows["text"].to_pylist()) == sorted(f"row {n}" for n in range(100))
        again = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["id"] == job["id"]
        assert "did this before; --again" in again.stderr
