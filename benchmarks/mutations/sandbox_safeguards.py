"""The lines that bound what people's templates, expressions and operations may do. Facts only."""

from .safeguard import Safeguard

_TEMPLATES = ("tests/jobs/test_templates.py",)
_WORKSHOP = ("tests/jobs/workflow/test_workshop.py", "-k", "key_of_ours")
_DRY_RUN = ("tests/jobs/test_dry_run.py",)
_PROCESS = ("tests/jobs/test_dry_run_process.py",)

SANDBOX_SAFEGUARDS = (
    # -- templates and expressions
    Safeguard(
        "no text grows beyond its bound",
        "jobs/template_filters.py",
        "        if num_chars > MAX_TEXT_CHARS:\n",
        "        if False:\n",
        _TEMPLATES,
    ),
    Safeguard(
        "a method is no text",
        "jobs/template_filters.py",
        "        elif callable(part):\n",
        "        elif False:\n",
        _TEMPLATES,
    ),
    Safeguard(
        "no list that shares lists is walked without end",
        "jobs/template_filters.py",
        "            if num_parts > MAX_TEXT_CHARS:\n",
        "            if False:\n",
        _TEMPLATES,
    ),
    Safeguard(
        "nothing is called but harmless methods",
        "jobs/template_sandbox.py",
        "            if not isinstance(owner, str | list | dict) or name not in _METHODS:\n",
        "            if False:\n",
        _TEMPLATES,
    ),
    # -- the processes in which they are at work
    Safeguard(
        "operations see no key of ours",
        "jobs/workflow/workshop/bench.py",
        "without_secrets(os.environ)",
        "dict(os.environ)",
        _WORKSHOP,
    ),
    Safeguard(
        "a process has so much memory",
        "jobs/workflow/workshop/bench.py",
        "    resource.setrlimit(resource.RLIMIT_AS, (int(max_memory), int(max_memory)))\n",
        "",
        _WORKSHOP,
    ),
    Safeguard(
        "no process outlives who started it",
        "jobs/workflow/workshop/bench.py",
        "    die_with_parent(int(parent), signal.SIGKILL)\n",
        "",
        ("tests/jobs/test_parent_death.py",),
    ),
    # -- dry runs
    Safeguard(
        "one row ends no dry run",
        "jobs/dry_run.py",
        "        except Exception as error:  # whatever one row",
        "        except KeyError as error:  # whatever one row",
        _DRY_RUN,
    ),
    Safeguard(
        "a dry run knows no key",
        "jobs/dry_run_process.py",
        "env=_environment(order),",
        "env=dict(os.environ),",
        _PROCESS,
    ),
)
