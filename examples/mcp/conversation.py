"""Two agents that talk in a thread and wait for a person: `python conversation.py TOPIC`.

Needs `pip install mcp==2.3.0`. Each agent is an MCP client of its own, through `agentbus mcp`.
"""

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters

BUS = StdioServerParameters(command="agentbus", args=["mcp"], env=dict(os.environ))


class Agent:
    """An agent in a thread: it has read what it has read, and posts only in step with the others."""

    def __init__(self, client, name):
        self.client, self.name, self.heard = client, name, []

    async def call(self, tool, **arguments):
        result = await self.client.call_tool(tool, arguments)
        return json.loads(result.content[0].text)

    async def join(self, topic):
        joined = await self.call("bus_connect", thread_name=topic, ide=self.name, model="script")
        self.thread, self.sync = joined["thread"]["thread_id"], joined
        self.me = {"agent_id": joined["agent"]["agent_id"], "token": joined["agent"]["token"]}
        self.heard = [said for said in joined["messages"] if said["seq"] > 0]

    async def listen(self):
        seen = max([said["seq"] for said in self.heard], default=0)
        self.sync = await self.call(
            "msg_wait", thread_id=self.thread, after_seq=seen, timeout_ms=30000,
            return_format="json", **self.me,
        )
        self.heard += self.sync["messages"]

    async def say(self, text):
        while True:
            posted = await self.call(
                "msg_post", thread_id=self.thread, author=self.me["agent_id"], content=text,
                expected_last_seq=self.sync["current_seq"], reply_token=self.sync["reply_token"],
            )
            if "error" not in posted:
                return
            await self.listen()  # Somebody was faster: read that first.

    async def hear(self, text):
        while not any(text in said["content"] for said in self.heard):
            await self.listen()


async def main(topic):
    async with Client(BUS) as first, Client(BUS) as second:
        ada, bob = Agent(first, "Ada"), Agent(second, "Bob")
        await ada.join(topic)
        await bob.join(topic)
        await ada.say("What shall we call it?")
        await bob.hear("call it")
        await bob.say("AgentBus.")
        await ada.hear("AgentBus.")
        await ada.hear("Agreed.")  # A person says so.
        for said in sorted(ada.heard + bob.heard, key=lambda said: said["seq"]):
            print(f"{said.get('author_name') or said['author']}: {said['content']}")


asyncio.run(main(sys.argv[1]))
