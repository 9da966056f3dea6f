"""A peer of AMB that does what its standard input says, one JSON object per line.

    {"subscribe": TOPIC}                        hears a topic; each message becomes a line
    {"publish": TOPIC, "payload": …, …}         publishes; other keys are keyword arguments
    {"pending": TOPIC}                          reads what the topic's stream holds
"""

import asyncio
import json
import sys

from amb_core import MessageBus
from amb_core.adapters import KafkaBroker, RabbitMQBroker, RedisBroker

from nats_broker import NatsBroker


def say(line):
    print(json.dumps(line), flush=True)


async def heard(message):
    say({"heard": message.model_dump(mode="json")})


async def perform(bus, order):
    if "subscribe" in order:
        await bus.subscribe(order["subscribe"], heard)
        return True
    if "pending" in order:
        found = await bus._adapter.get_pending_messages(order["pending"], 10)
        return [message.model_dump(mode="json") for message in found]
    topic = order.pop("publish")
    return await bus.publish(topic, **order)


async def main():
    url = sys.argv[1]
    scheme, _, place = url.partition("://")
    brokers = {
        "amqp": lambda: RabbitMQBroker(url),
        "kafka": lambda: KafkaBroker(place),
        "nats": lambda: NatsBroker(url),
    }
    bus = MessageBus(brokers.get(scheme, lambda: RedisBroker(url))())
    await bus.connect()
    say({"done": "ready"})
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await lines.readline():
        say({"done": await perform(bus, json.loads(line))})


asyncio.run(main())
