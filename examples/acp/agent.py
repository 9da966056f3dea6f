"""An agent that speaks ACP, for a thread that it shares with another one and with people: `python agent.py OTHER`.

Needs `pip install agent-client-protocol==0.12.1`. It answers word by word, asks for permission before it does what
a person wants, and always has a last word for the other agent.
"""

import asyncio
import json
import re
import sys
import uuid

import acp
from acp import helpers, schema

OPTIONS = [
    schema.PermissionOption(option_id="ship", name="Ship it", kind="allow_once"),
    schema.PermissionOption(option_id="wait", name="Not now", kind="reject_once"),
]


class Agent(acp.Agent):
    def __init__(self, other):
        self.other = other

    def on_connect(self, conn):
        self.client = conn

    async def initialize(self, protocol_version, **kwargs):
        return schema.InitializeResponse(protocol_version=acp.PROTOCOL_VERSION)

    async def new_session(self, cwd, mcp_servers=None, **kwargs):
        return schema.NewSessionResponse(session_id=str(uuid.uuid4()))

    async def cancel(self, session_id, **kwargs):
        pass  # Its turns are over sooner than anybody could cancel them.

    async def prompt(self, session_id, prompt, **kwargs):
        # The first line says what this is; each of the others is a message of the thread.
        last = json.loads(prompt[0].text.splitlines()[-1])
        if last["class"] == "person":
            answer = await self.ship(session_id)
        else:
            answer = f"Good to know, @{self.other}."
        for word in re.findall(r" ?[^ ]+", answer):
            await self.client.session_update(session_id, helpers.update_agent_message_text(word))
        return schema.PromptResponse(stop_reason="end_turn")

    async def ship(self, session_id):
        call = schema.ToolCallUpdate(tool_call_id=str(uuid.uuid4()), title="Ship it", kind="execute")
        answer = await self.client.request_permission(
            session_id=session_id, tool_call=call, options=OPTIONS
        )
        shipped = getattr(answer.outcome, "option_id", None) == "ship"
        return f"Shipped. Tell the others, @{self.other}." if shipped else "It stays here."


asyncio.run(acp.run_agent(Agent(sys.argv[1])))
