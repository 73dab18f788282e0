"""The lines that decide what a workflow asks and what it takes for an answer. Facts only."""

from .safeguard import Safeguard

_ASKING = ("tests/jobs/workflow/test_asking.py",)
_CACHE = ("tests/jobs/workflow/test_cache.py",)
_REVISIONS = ("tests/jobs/workflow/test_model_revisions.py",)
_LOCAL = ("tests/jobs/workflow/test_local.py",)

ASKING_SAFEGUARDS = (
    # -- rows, and what they become
    Safeguard(
        "a row becomes no more rows than it may",
        "jobs/workflow/computing/expanding.py",
        "    if len(made) > spec.max:\n",
        "    if False:\n",
        _LOCAL,
    ),
    Safeguard(
        "whatever an operation does, its row fails alone",
        "jobs/workflow/tools.py",
        "        except Exception as error:  # whatever an operation does, only",
        "        except ValueError as error:  # whatever an operation does, only",
        _LOCAL,
    ),
    # -- what is asked
    Safeguard(
        "what has failed is not asked about",
        "jobs/workflow/asking/asking.py",
        "    if reads_failed(row, kind.columns):\n",
        "    if False:\n",
        _ASKING,
    ),
    Safeguard(
        "an answer that was not as asked is drawn anew",
        "jobs/workflow/asking/tries.py",
        "{tries.question.key}~{tries.num_invalid}",
        "{tries.question.key}",
        _ASKING,
    ),
    Safeguard(
        "a pair is judged in both orders",
        "jobs/workflow/asking/pairs.py",
        'agree = value.get("winner") == _TURNED.get(other)',
        "agree = True",
        ("tests/jobs/workflow/test_judging.py",),
    ),
    # -- what is taken for an answer
    Safeguard(
        "samples have answers of their own",
        "jobs/workflow/cache.py",
        "if isinstance(temperature, int | float) and temperature < GREEDY_EPSILON:",
        "if True:",
        _CACHE,
    ),
    Safeguard(
        "an answer is of one revision of a model",
        "jobs/workflow/cache.py",
        "json.dumps([model, revision])",
        "json.dumps([model])",
        _CACHE,
    ),
    Safeguard(
        "tenants share no answers",
        "jobs/workflow/cache.py",
        'f"answers-{tenant}.sqlite"',
        '"answers.sqlite"',
        _CACHE,
    ),
    Safeguard(
        "what a model was asked before it changed is not kept",
        "jobs/workflow/earlier_answers.py",
        "if each.cache_key and each.cache_key.startswith(prefix)",
        "if each.cache_key",
        _REVISIONS,
    ),
    Safeguard(
        "where workers disagree nothing is taken over",
        "jobs/workflow/model_revisions.py",
        'revisions.pop() if len(revisions) == 1 else ""',
        "revisions.pop()",
        _REVISIONS,
    ),
)
