"""NATS for AMB: the released package has no adapter for it, so here is one on its public base.

Its names are those that AMB's own unreleased adapter uses: `amb.` and the topic, with dots for slashes.
"""

import uuid

import nats
from amb_core import BrokerAdapter, Message


def place(topic):
    return "amb." + topic.replace("/", ".")


class NatsBroker(BrokerAdapter):
    def __init__(self, url):
        self.url = url
        self.subscriptions = {}

    async def connect(self):
        self.client = await nats.connect(self.url)

    async def disconnect(self):
        await self.client.close()

    async def publish(self, message, wait_for_confirmation=False):
        await self.client.publish(place(message.topic), message.model_dump_json().encode())
        if wait_for_confirmation:
            await self.client.flush()
        return message.id

    async def subscribe(self, topic, handler):
        async def heard(raw):
            await handler(Message.model_validate_json(raw.data))

        name = str(uuid.uuid4())
        self.subscriptions[name] = await self.client.subscribe(place(topic), cb=heard)
        await self.client.flush()
        return name

    async def unsubscribe(self, subscription_id):
        await self.subscriptions.pop(subscription_id).unsubscribe()

    async def request(self, message, timeout=30.0):
        raise NotImplementedError("AMB's own adapter never gets an answer over NATS")

    async def get_pending_messages(self, topic, limit=10):
        return []
