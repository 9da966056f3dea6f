"""The Python SDK as the client of an agent: a tour of what a client can ask for."""

import asyncio
import os
import sys

import acp
from acp.schema import AllowedOutcome, McpServerStdio, RequestPermissionResponse

AGENT, MCP = sys.argv[1:]


class Tourist(acp.Client):
    def __init__(self):
        self.updates = []
        self.asked = 0

    async def request_permission(self, options, session_id, tool_call, **kwargs):
        self.asked += 1
        option = next(option for option in options if option.kind == "allow_once")
        outcome = AllowedOutcome(outcome="selected", option_id=option.option_id)
        return RequestPermissionResponse(outcome=outcome)

    async def session_update(self, session_id, update, **kwargs):
        self.updates.append(update)

    def said(self):
        kind = "agent_message_chunk"
        return [u.content.text for u in self.updates if u.session_update == kind]


async def prompt(agent, session, text):
    answer = await agent.prompt(session_id=session, prompt=[acp.text_block(text)])
    return answer.stop_reason


async def first():
    tourist = Tourist()
    async with acp.spawn_agent_process(tourist, AGENT) as (agent, _process):
        await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
        server = McpServerStdio(name="echo", command=MCP, args=["worker", "mcp-echo"], env=[])
        opened = await agent.new_session(cwd=os.getcwd(), mcp_servers=[server])
        session = opened.session_id
        assert await prompt(agent, session, "one") == "end_turn"
        assert await prompt(agent, session, '/tool reverse {"text": "abc"}') == "end_turn"
        assert tourist.asked == 1
        waiting = asyncio.create_task(prompt(agent, session, "/wait 60"))
        await asyncio.sleep(0.2)
        await agent.cancel(session_id=session)
        assert await waiting == "cancelled"
        assert await prompt(agent, session, "on") == "end_turn"
        assert tourist.said() == ["one", "cba", "on"], tourist.said()
        return session


async def second(session):
    tourist = Tourist()
    async with acp.spawn_agent_process(tourist, AGENT) as (agent, _process):
        await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
        listed = await agent.list_sessions(cwd=os.getcwd())
        assert [one.session_id for one in listed.sessions] == [session]
        await agent.load_session(cwd=os.getcwd(), session_id=session, mcp_servers=[])
        assert tourist.said() == ["one", "cba", "on"], tourist.said()


async def main():
    await second(await first())
    print("the tour is complete")


asyncio.run(main())
