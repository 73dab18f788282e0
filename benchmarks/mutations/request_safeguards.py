"""The lines that keep odd and foreign requests from doing harm, and the tests that hold each."""

from .safeguard import Safeguard

_TENANTS = ("tests/api/test_tenants.py",)
_ERRORS = ("tests/api/test_errors.py",)
_PAGES = ("tests/api/test_pages.py", "-k", "own_scripts")
_WEBHOOKS = ("tests/api/test_webhooks.py", "-k", "inwards")
_HOME = ("tests/api/test_disk_refusals.py",)

REQUEST_SAFEGUARDS = (
    # -- tenants
    Safeguard(
        "a list of runs holds its tenant's",
        "jobs/workflow/runs/runs.py",
        "            if tenant not in (None, spec.tenant):\n",
        "            if False:\n",
        _TENANTS,
    ),
    Safeguard(
        "the name of a workflow is no path to another's",
        "api/workflow_store.py",
        "        if _NAME.fullmatch(name):\n",
        "        if name:\n",
        _TENANTS,
    ),
    Safeguard(
        "the ceiling holds for what is changed",
        "api/named_changes.py",
        'changes["priority"] = priority_for(services, principal, body.priority)',
        'changes["priority"] = body.priority or 0',
        _TENANTS,
    ),
    Safeguard(
        "a batch's key is its tenant's",
        "jobs/batch_record.py",
        'f"{tenant}\\n{key}"',
        'f"{key}"',
        ("tests/jobs/test_batch_clerk.py", "-k", "key"),
    ),
    Safeguard(
        "a part is of its own upload",
        "jobs/part_uploads.py",
        "not _PART_ID.fullmatch(part_id) or ",
        "",
        ("tests/api/test_files.py", "-k", "parts"),
    ),
    # -- bodies
    Safeguard(
        "a body that declares no length has a bound",
        "api/bodies.py",
        "            if len(body) > max_bytes:\n",
        "            if False:\n",
        _ERRORS,
    ),
    Safeguard(
        "a body without a type is no JSON",
        "api/bodies.py",
        'if media_type.lower() != "application/json":',
        'if media_type and media_type.lower() != "application/json":',
        _ERRORS,
    ),
    # -- web pages
    Safeguard(
        "no page of elsewhere is let in",
        "api/same_site.py",
        "if origin is not None and urlsplit(origin)",
        "if False and urlsplit(origin)",
        _ERRORS,
    ),
    Safeguard(
        "no foreign name is ours",
        "api/same_site.py",
        "if not self._is_ours(_name_of(host)):",
        "if False:",
        _ERRORS,
    ),
    Safeguard(
        "nobody frames a page",
        "api/web_pages.py",
        "frame-ancestors 'none'",
        "frame-ancestors *",
        _PAGES,
    ),
    Safeguard(
        "a file is no page of ours",
        "api/routes/files.py",
        ', "content-disposition": "attachment"',
        "",
        ("tests/api/test_files.py", "-k", "byte_for_byte"),
    ),
    # -- webhooks
    Safeguard(
        "no endpoint is turned inwards",
        "api/routes/webhook_endpoints.py",
        "    if body.url is not None:\n        check_url(",
        "    if False:\n        check_url(",
        _WEBHOOKS,
    ),
    # -- the disk
    Safeguard(
        "no run begins on a disk that is not the queue's",
        "api/run_start.py",
        "    require_home(services)\n",
        "",
        _HOME,
    ),
)
