"""What operations answer, by their names, for the OpenAPI document. Knows shapes, no route.

Loaded when somebody asks for the document: so many shapes take a server that starts a while.
"""

from . import (
    dry_run_objects as dry_run,
    openai_objects as openai,
    own_objects as own,
    page_objects as pages,
    run_objects as runs,
    shared_objects as shared,
    stored_objects as stored,
    workflow_objects as workflows,
)
from .described import Described
from .result_formats import MEDIA_TYPES

STREAM, LINES = "text/event-stream", "application/x-ndjson"
_ROWS = (LINES, MEDIA_TYPES["arrow"], MEDIA_TYPES["parquet"])
BYTES = "application/octet-stream"

# What an operation answers, by its name; the status is what the route says.
ANSWERS: dict[str, type[Described]] = {
    "create_job": own.NewJob,
    "validate_job": dry_run.JobValidation,
    "list_jobs": own.JobList,
    "get_job": own.Job,
    "change_job": own.Job,
    "delete_job": shared.Deleted,
    "cancel_job": own.Job,
    "pause_job": own.Job,
    "resume_job": own.Job,
    "retry_job": own.Job,
    "get_results": own.ResultPage,
    "get_errors": own.Listing,
    "get_timeline": pages.JobTimeline,
    "get_task": pages.JobTask,
    "get_graph": pages.RunGraph,
    "get_me": pages.Caller,
    "list_workflows": workflows.WorkflowList,
    "store_workflow": workflows.Workflow,
    "get_workflow": workflows.Workflow,
    "validate_workflow": workflows.WorkflowCheck,
    "delete_workflow": shared.Deleted,
    "preview_workflow": workflows.WorkflowPreview,
    "look_at_preview": workflows.WorkflowPreview,
    "plan_workflow": workflows.WorkflowPlan,
    "look_at_plan": workflows.WorkflowPlan,
    "create_run": runs.Run,
    "get_runs": runs.RunList,
    "get_run": runs.Run,
    "update_run": runs.Run,
    "run_again": runs.Run,
    "pause": runs.Run,
    "resume": runs.Run,
    "cancel": runs.Run,
    "delete_run": shared.Deleted,
    "get_row": runs.RowHistory,
    "get_run_results": own.ResultPage,
    "get_run_errors": runs.RunErrorPage,
    "get_step_rows": own.ResultPage,
    "create_chat_completion": openai.ChatCompletion,
    "create_completion": openai.Completion,
    "create_response": openai.ModelResponse,
    "retrieve_response": openai.ModelResponse,
    "cancel_response": openai.ModelResponse,
    "delete_response": shared.Deleted,
    "create_embeddings": openai.EmbeddingList,
    "create_file": stored.File,
    "list_files": stored.FileList,
    "get_file": stored.File,
    "delete_file": shared.Deleted,
    "create_upload": stored.Upload,
    "add_part": stored.UploadPart,
    "complete_upload": stored.Upload,
    "cancel_upload": stored.Upload,
    "create_batch": stored.Batch,
    "list_batches": stored.BatchList,
    "get_batch": stored.Batch,
    "cancel_batch": stored.Batch,
    "create_endpoint": stored.NewWebhookEndpoint,
    "list_endpoints": stored.WebhookEndpointList,
    "get_endpoint": stored.WebhookEndpoint,
    "change_endpoint": stored.WebhookEndpoint,
    "rotate_secret": stored.NewWebhookEndpoint,
    "delete_endpoint": shared.Deleted,
    "try_endpoint": stored.WebhookTest,
    "list_event_types": stored.WebhookEventTypes,
    "list_deliveries": own.Deliveries,
    "list_models": openai.ModelList,
    "get_model": openai.Model,
    "create_key": own.NewApiKey,
    "list_keys": own.ApiKeyList,
    "revoke_key": own.ApiKey,
    "get_usage": own.Listing,
    "list_queues": own.QueueList,
    "list_workers": own.Listing,
    "healthz": own.Liveness,
    "readyz": own.Readiness,
}

# Other forms in which answers may come: beside JSON, or, with None, in its place.
FORMS: dict[str, tuple[str | None, ...]] = {
    "create_chat_completion": (STREAM,),
    "create_completion": (STREAM,),
    "create_response": (STREAM,),
    "get_results": _ROWS,
    "validate_job": (LINES,),
    "get_run_results": _ROWS,
    "get_step_rows": _ROWS,
    "follow_events": (None, STREAM),
    "follow_run_events": (None, STREAM),
    "follow_overview": (None, STREAM),
    "get_content": (None, BYTES),
    "metrics": (None, "text/plain"),
}

# Shapes that no answer is, but that stand in one, or in its place.
BESIDE = (shared.ErrorEnvelope, own.StreamEvent)
