"""An agent on the Python SDK. Its prompts say what it does."""

import asyncio
import json
import os
import uuid

import acp
from acp import helpers, schema


class Agent(acp.Agent):
    def __init__(self):
        self.sessions = {}

    def on_connect(self, conn):
        self.client = conn

    async def initialize(self, protocol_version, **kwargs):
        return schema.InitializeResponse(protocol_version=acp.PROTOCOL_VERSION)

    async def new_session(self, cwd, mcp_servers=None, **kwargs):
        session_id = str(uuid.uuid4())
        self.servers = mcp_servers or []
        self.sessions[session_id] = {"prompts": 0, "cancelled": asyncio.Event(), "meta": kwargs}
        return schema.NewSessionResponse(session_id=session_id, field_meta={"agent": "opened"})

    async def cancel(self, session_id, **kwargs):
        self.sessions[session_id]["cancelled"].set()

    async def say(self, session_id, text):
        await self.client.session_update(session_id, helpers.update_agent_message_text(text))

    async def prompt(self, session_id, prompt, **kwargs):
        session = self.sessions[session_id]
        session["prompts"] += 1
        verb, _, argument = prompt[0].text.partition(" ")
        if verb == "stream":
            await self.stream(session_id)
        elif verb == "permission":
            await self.permission(session_id)
        elif verb == "form":
            await self.form(session_id)
        elif verb == "visit":
            await self.visit(session_id)
        elif verb == "visited":
            await self.client.complete_elicitation(elicitation_id="login")
        elif verb == "read":
            await self.read(session_id, argument)
        elif verb == "write":
            await self.write(session_id, argument)
        elif verb == "terminal":
            await self.terminal(session_id)
        elif verb == "meta":
            await self.meta(session_id, kwargs)
            return schema.PromptResponse(stop_reason="end_turn", field_meta={"agent": "ended"})
        elif verb == "count":
            await self.say(session_id, str(session["prompts"]))
        elif verb == "tools":
            await self.tools(session_id)
        elif verb == "crash":
            os._exit(9)
        elif verb == "wait":
            session["cancelled"].clear()
            await self.say(session_id, "waiting")
            await session["cancelled"].wait()
            return schema.PromptResponse(stop_reason="cancelled")
        return schema.PromptResponse(stop_reason="end_turn")

    async def tell(self, session_id, what):
        await self.say(session_id, json.dumps(what, sort_keys=True, separators=(",", ":")))

    async def stream(self, session_id):
        for update in [
            helpers.update_agent_thought_text("hm"),
            helpers.update_plan([helpers.plan_entry("count", priority="high", status="in_progress")]),
            helpers.update_agent_message_text("one "),
            helpers.start_tool_call("t1", "Count", kind="think", status="in_progress"),
            helpers.update_agent_message_text("two "),
            helpers.update_tool_call("t1", status="completed"),
            helpers.update_agent_message_text("three"),
        ]:
            await self.client.session_update(session_id, update)

    async def permission(self, session_id):
        answer = await self.client.request_permission(
            session_id=session_id,
            tool_call=schema.ToolCallUpdate(tool_call_id="t2", title="Edit a file", kind="edit"),
            options=[
                schema.PermissionOption(option_id="allow", name="Allow", kind="allow_once"),
                schema.PermissionOption(option_id="reject", name="Reject", kind="reject_once"),
            ],
        )
        chosen = answer.outcome
        said = f"allowed with {chosen.option_id}" if chosen.outcome == "selected" else "cancelled"
        await self.say(session_id, said)

    async def elicit(self, session_id, message, mode):
        answer = await self.client.create_elicitation(message=message, mode=mode)
        await self.tell(session_id, answer.model_dump(by_alias=True, exclude_none=True))

    async def form(self, session_id):
        age = schema.ElicitationIntegerPropertySchema(type="integer", minimum=0)
        fields = schema.ElicitationSchema(type="object", properties={"age": age}, required=["age"])
        scope = {"session_id": session_id, "tool_call_id": "t9"}
        mode = schema.ElicitationFormSessionMode(requested_schema=fields, **scope)
        await self.elicit(session_id, "How old?", mode)

    async def visit(self, session_id):
        where = {"elicitation_id": "login", "url": "https://example.org/login"}
        mode = schema.ElicitationUrlSessionMode(session_id=session_id, **where)
        await self.elicit(session_id, "Log in", mode)

    async def tools(self, session_id):
        """Starts the MCP server that the session was given, as an agent does, and names its tools."""
        server = self.servers[0]
        env = os.environ | {variable.name: variable.value for variable in server.env}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            server.command, *server.args, env=env, stdin=pipe, stdout=pipe, limit=2**24
        )

        async def call(number, method, params):
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            return json.loads(await process.stdout.readline())["result"]

        who = {"name": "agent", "version": "1"}
        version = "2025-06-18"
        await call(1, "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": who})
        process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        listed = await call(2, "tools/list", {})
        process.stdin.close()
        await process.wait()
        await self.say(session_id, " ".join(tool["name"] for tool in listed["tools"]))

    async def meta(self, session_id, prompt):
        asked = await self.client.request_permission(
            session_id=session_id,
            tool_call=schema.ToolCallUpdate(tool_call_id="t3", title="Look"),
            options=[schema.PermissionOption(option_id="yes", name="Yes", kind="allow_once")],
            agent="asks",
        )
        update = helpers.update_agent_message_text("marked")
        update.field_meta = {"agent": "speaks"}
        await self.client.session_update(session_id, update)
        opened = self.sessions[session_id]["meta"]
        await self.tell(session_id, {"answer": asked.field_meta, "opened": opened, "prompt": prompt})

    async def terminal(self, session_id):
        client, at = self.client, {"session_id": session_id}
        variable = schema.EnvVariable(name="A", value="b")
        created = await client.create_terminal(
            command="make", args=["all"], env=[variable], cwd="/made/up", output_byte_limit=1000, **at
        )
        at["terminal_id"] = created.terminal_id
        before = await client.terminal_output(**at)
        await client.kill_terminal(**at)
        exited = await client.wait_for_terminal_exit(**at)
        after = await client.terminal_output(**at)
        await client.release_terminal(**at)
        said = [before.output, exited.signal, after.output, after.truncated, after.exit_status.signal]
        await self.tell(session_id, said)
        try:
            await client.terminal_output(**at)
        except acp.RequestError as error:
            await self.say(session_id, f"refused: {error}")

    async def write(self, session_id, path):
        await self.client.write_text_file(session_id=session_id, path=path, content="written")
        await self.say(session_id, "wrote")

    async def read(self, session_id, path):
        try:
            answer = await self.client.read_text_file(session_id=session_id, path=path)
            await self.say(session_id, answer.content)
        except acp.RequestError as error:
            await self.say(session_id, f"refused: {error}")


asyncio.run(acp.run_agent(Agent()))
