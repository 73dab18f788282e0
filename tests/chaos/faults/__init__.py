"""All faults, by what they harm."""

from . import api, client, disk, engine, network, queue, redis, steering, storm, version, worker

ALL_FAULTS = (
    *engine.FAULTS,
    *worker.FAULTS,
    *api.FAULTS,
    *redis.FAULTS,
    *network.FAULTS,
    *queue.FAULTS,
    *disk.FAULTS,
    *client.FAULTS,
    *steering.FAULTS,
    *version.FAULTS,
    *storm.FAULTS,
)
