"""One short example of each verb, for the end of its help page. Knows what to type, not why.

Ids and files are made up. `penstock` is always the first word, so that a line can be copied.
"""

_ID = "job_01K3ZT4Q9X"
_WHOLE_ID = f"{_ID}8F2M7RB6C4E1D0VT"
_ROWS = "rows.jsonl --prompt 'Classify: {{ row.text }}'"

EXAMPLES = {
    "up": "penstock up --model Qwen/Qwen2.5-0.5B-Instruct",
    "demo": "penstock demo --rows 500",
    "api": "penstock api --port 8100 --set data=/srv/penstock",
    "worker": "penstock worker --model Qwen/Qwen2.5-0.5B-Instruct",
    "flower": "penstock flower --port 5555",
    "keys create": "penstock keys create --tenant research --scopes submit,read",
    "keys list": "penstock keys list",
    "keys revoke": "penstock keys revoke key_01K3ZT4Q9X",
    "run": f"penstock run {_ROWS} --out out",
    "submit": f"penstock submit {_ROWS} --watch",
    "validate": f"penstock validate {_ROWS}",
    "watch": f"penstock watch {_ID}",
    "jobs": "penstock jobs --status running",
    "show": f"penstock show {_ID}",
    "results": f"penstock results {_ID} --status failed -o json",
    "errors": f"penstock errors {_ID}",
    "diff": f"penstock diff {_ID} job_01K40B2M7R --metric similarity",
    "pause": f"penstock pause {_ID}",
    "resume": f"penstock resume {_ID}",
    "priority": f"penstock priority {_ID} 10",
    "update": f"penstock update {_ID} --name nightly --deadline 2h",
    "retry": f"penstock retry {_ID} --code engine_error --watch",
    "cancel": f"penstock cancel {_ID}",
    "delete": f"penstock delete {_WHOLE_ID}",
    "workflow run": "penstock workflow run flow.yaml --input texts=rows.jsonl -p mark=?",
    "workflow validate": "penstock workflow validate flow.yaml --input rows.jsonl",
    "workflow preview": "penstock workflow preview flow.yaml --input rows.jsonl --rows 3",
    "workflow plan": "penstock workflow plan flow.yaml --input rows.jsonl --rows texts=100000",
    "workflow schema": "penstock workflow schema",
    "workflow runs": "penstock workflow runs --limit 5",
    "workflow graph": "penstock workflow graph flow.yaml -o mermaid",
    "workflow save": "penstock workflow save flow.yaml",
    "workflow list": "penstock workflow list",
    "workflow show": "penstock workflow show best-of-5",
    "workflow delete": "penstock workflow delete best-of-5",
    "top": "penstock top --interval 2",
    "chat": "penstock chat 'Add 17 and 25.' -s temperature=0",
    "models": "penstock models",
    "plan": "penstock plan --model Qwen/Qwen3-8B --gpu H200 --rows 1000000",
    "doctor": "penstock doctor",
    "completion": "penstock completion bash",
}


def example(verb: str) -> str | None:
    """Write the end of a verb's help page; None where nobody has thought of an example yet."""
    line = EXAMPLES.get(verb)
    return None if line is None else f"Example:\n$ {line}"
