"""The lines that keep a program's rows whole and its secrets its own, and the tests of each."""

from .safeguard import Safeguard

_CLIENT = ("tests/api/test_client.py",)
_RESULTS = ("tests/api/test_client_results.py",)
_DOWNLOADS = ("tests/api/test_downloads.py",)
_WEB = ("tests/api/test_client_web.py",)
_BATCHER = ("tests/api/test_batcher.py", "-k", "cancelled")
_OUTPUT = ("tests/api/test_cli_output.py",)

CLIENT_SAFEGUARDS = (
    # -- what is sent
    Safeguard(
        "an id is no path",
        "api/rest_paths.py",
        ' or "/" in name',
        "",
        ("tests/api/test_rest_paths.py",),
    ),
    Safeguard(
        "a submission that is repeated makes one job",
        "api/job_calls.py",
        '                headers={"Idempotency-Key": key},\n',
        "",
        _CLIENT,
    ),
    Safeguard(
        "what is sent again is sent whole",
        "api/payloads.py",
        "        self._file.seek(0, os.SEEK_END)  # a sending",
        "        # a sending",
        ("tests/api/test_upload_retries.py",),
    ),
    Safeguard(
        "what is secret in a URL is not told",
        "api/web_files.py",
        '    return f"{parts.scheme}://{parts.netloc',
        '    return url or f"{parts.scheme}://{parts.netloc',
        _WEB,
    ),
    # -- what comes back
    Safeguard(
        "a line is no less a line for what is in it",
        "api/results_pager.py",
        'response.content.split(b"\\n")',
        "response.text.splitlines()",
        _RESULTS,
    ),
    Safeguard(
        "a download is there as a whole or not at all",
        "api/whole_file.py",
        "        unfinished.replace(path)\n    finally:\n",
        "    finally:\n        unfinished.replace(path)\n",
        _DOWNLOADS,
    ),
    Safeguard(
        "what anybody says is no HTML",
        "api/cards.py",
        "from html import escape\n",
        "escape = str\n",
        ("tests/api/test_cards.py",),
    ),
    # -- the batcher
    Safeguard(
        "a job that nobody waits for is cancelled",
        "api/batch_calls.py",
        "    if not is_wanted(submitted):\n",
        "    if False:\n",
        _BATCHER,
    ),
    Safeguard(
        "some samples are no answer",
        "api/batch_calls.py",
        "if place in self._landed and is_completed:",
        "if place in self._landed:",
        ("tests/api/test_batch_calls.py",),
    ),
    # -- the command line
    Safeguard(
        "a name gives no orders to a terminal",
        "api/cli_output.py",
        'harmless(" ".join(text.split()))',
        '" ".join(text.split())',
        _OUTPUT,
    ),
)
