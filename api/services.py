"""What the routes work with, opened once per application. Knows no route."""

from dataclasses import dataclass
from typing import Annotated

import redis.asyncio
from anyio import CapacityLimiter
from fastapi import Depends, Request

from ..jobs.api_keys import ApiKeys
from ..jobs.batch_record import BatchRecords
from ..jobs.chat_usage import ChatUsage
from ..jobs.events import AsyncJobEvents
from ..jobs.file_store import FileStore
from ..jobs.interactive import InteractiveLane
from ..jobs.job_table import JobTable
from ..jobs.keeper import Keeper
from ..jobs.part_uploads import PartUploads
from ..jobs.quotas import QuotaWatch
from ..jobs.settings import Settings
from ..jobs.stored_bytes import StoredBytes
from ..jobs.tenants import Tenants
from ..jobs.timeline import Timelines
from ..jobs.webhook_endpoints import WebhookEndpoints
from ..jobs.webhook_outbox import WebhookOutbox
from ..jobs.workflow.runs.part_ends import PartEnds
from .background_responses import BackgroundResponses
from .catalog import Catalog
from .job_object import RateGauge
from .long_poll import LongPolls
from .meters import Meters
from .rate_limit import RateGates
from .response_book import ResponseBook
from .shared_looks import SharedLooks
from .stream_slots import StreamSlots
from .validation_slots import ValidationSlots
from .waiting_line import WaitingLine


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that lives as long as the application does."""

    settings: Settings
    redis: redis.asyncio.Redis
    table: JobTable  # blocks: call it in a thread
    events: AsyncJobEvents
    lane: InteractiveLane
    line: WaitingLine
    batches: BatchRecords  # so do all these
    files: FileStore
    uploads: PartUploads
    endpoints: WebhookEndpoints
    outbox: WebhookOutbox
    keys: ApiKeys
    tenants: Tenants
    stored: StoredBytes
    quotas: QuotaWatch
    chats: ChatUsage
    catalog: Catalog
    meters: Meters
    rates: RateGauge
    responses: ResponseBook
    background: BackgroundResponses  # blocks, too
    gates: RateGates
    streams: StreamSlots
    polls: LongPolls
    looks: SharedLooks
    timelines: Timelines
    part_ends: PartEnds
    keeper: Keeper
    submissions: CapacityLimiter  # long ones must not take every thread
    validations: ValidationSlots
    followers: CapacityLimiter  # of jobs' events; each holds a connection to Redis


def _services(request: Request) -> Services:
    return request.app.state.services


TheServices = Annotated[Services, Depends(_services)]
