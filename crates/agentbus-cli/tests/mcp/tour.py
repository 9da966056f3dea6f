"""The tour of the Python SDK: everything an agent does, over one transport at one era.

tour.py TRANSPORT MODE URL TOKEN PROGRAM; TRANSPORT is http, sse or stdio, MODE legacy or 2026-07-28.
"""

import asyncio
import json
import sys
import uuid
import warnings

import httpx2
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

warnings.simplefilter("ignore")
TRANSPORT, MODE, URL, TOKEN, PROGRAM = sys.argv[1:6]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def transport():
    if TRANSPORT == "sse":
        return sse_client(f"{URL}/mcp/sse?lang=French", headers=BEARER)
    if TRANSPORT == "http":
        http = httpx2.AsyncClient(headers=BEARER, timeout=60)
        return streamable_http_client(f"{URL}/mcp", http_client=http)
    arguments = ["--url", URL, "mcp"] if URL else ["mcp", "--embedded", "--listen", "127.0.0.1:0"]
    import os

    return stdio_client(StdioServerParameters(command=PROGRAM, args=arguments, env=dict(os.environ)))


async def call(client, name, more=None, **arguments):
    result = await client.call_tool(name, arguments, **(more or {}))
    text = result.content[0].text
    try:
        return result, json.loads(text)
    except ValueError:
        return result, text


async def conversation(client):
    topic = f"Tour {uuid.uuid4()}"
    result, joined = await call(client, "bus_connect", thread_name=topic, ide="SDK", model="Python")
    assert result.structured_content["agent"] == joined["agent"]
    assert joined["messages"][0]["role"] == "system", joined
    agent, thread = joined["agent"], joined["thread"]["thread_id"]
    who = {"agent_id": agent["agent_id"], "token": agent["token"]}
    sync = {"expected_last_seq": joined["current_seq"], "reply_token": joined["reply_token"]}
    post = {"thread_id": thread, "author": agent["agent_id"], "role": "assistant"}
    _, posted = await call(client, "msg_post", content="Hello from Python", **post, **sync)
    assert posted["reply_token"], posted
    _, refused = await call(client, "msg_post", content="twice", **post, **sync)
    assert refused["error"] == "ReplyTokenReplayError", refused
    wait = {"thread_id": thread, "after_seq": posted["seq"], "return_format": "json"}
    _, fresh = await call(client, "msg_wait", timeout_ms=5000, **wait, **who)
    assert fresh["messages"] == [] and fresh["reply_token"], fresh
    _, other = await call(client, "bus_connect", thread_name=topic, ide="SDK", model="Other")
    waiting = asyncio.create_task(call(client, "msg_wait", timeout_ms=60000, **wait, **who))
    await asyncio.sleep(0.2)
    _, answer = await call(
        client, "msg_post", thread_id=thread, author=other["agent"]["agent_id"],
        token=other["agent"]["token"], content="A needle for you",
        expected_last_seq=other["current_seq"], reply_token=other["reply_token"],
    )
    _, heard = await waiting
    assert [one["content"] for one in heard["messages"]] == ["A needle for you"], heard
    _, found = await call(client, "msg_search", query="needle", thread_id=thread)
    assert found["total"] == 1, found
    result, _ = await call(client, "msg_list", thread_id=thread)
    assert result.content[-1].text == "A needle for you"
    edit = {"message_id": posted["msg_id"], "new_content": "Hello again"}
    _, edited = await call(client, "msg_edit", **edit, **who)
    assert edited["version"] == 1, edited
    react = {"message_id": answer["msg_id"], "reaction": "agree"}
    _, reacted = await call(client, "msg_react", **react, **who)
    assert reacted["reaction"] == "agree", reacted
    _, state = await call(client, "thread_set_state", thread_id=thread, state="review")
    assert state == {"ok": True, "thread_id": thread, "status": "review"}, state
    new = {"topic": f"{topic}, too", "template": "code-review"}
    _, created = await call(client, "thread_create", **new, **who)
    assert created["template_id"] == "code-review", created
    _, threads = await call(client, "thread_list")
    assert thread in [one["thread_id"] for one in threads["threads"]], threads
    _, agents = await call(client, "agent_list")
    assert agent["agent_id"] in [one["agent_id"] for one in agents], agents
    return thread, who


async def the_rest(client, thread):
    tools = (await client.list_tools()).tools
    assert len(tools) == 12, [tool.name for tool in tools]
    assert all(tool.output_schema for tool in tools), [tool.name for tool in tools]
    _, hidden = await call(client, "bus_tools")
    assert "agent_invoke" in [tool["name"] for tool in hidden["tools"]], hidden
    result, text = await call(client, "thread_get")
    assert result.is_error and text.startswith("Input validation error: 'thread_id'"), text
    _, config = await call(client, "bus_get_config")
    assert config["preferred_language"] == ("French" if TRANSPORT == "sse" else "English"), config
    result, text = await call(client, "agent_invoke", target="nobody-at-all", payload={})
    assert result.is_error and "nobody serves" in text, text
    _, opened = await call(client, "event_wait", pattern="tour.*", timeout_ms=0)
    await call(client, "event_publish", event_type="tour.went", payload={"by": "python"})
    handle = {"subscription_id": opened["subscription_id"]}
    _, events = await call(client, "event_wait", timeout_ms=5000, **handle)
    assert events["events"][0]["payload"] == {"by": "python"}, events
    prompts = (await client.list_prompts()).prompts
    assert [prompt.name for prompt in prompts] == ["summarize_thread", "handoff_to_agent"]
    prompt = await client.get_prompt("summarize_thread", {"topic": "T", "transcript": "TR"})
    assert "TR" in prompt.messages[0].content.text
    templates = (await client.list_resource_templates()).resource_templates
    assert "chat://threads/{thread_id}/transcript" in [one.uri_template for one in templates]
    state = await client.read_resource(f"chat://threads/{thread}/state")
    assert json.loads(state.contents[0].text)["status"] == "review"
    ref = types.ResourceTemplateReference(uri="chat://threads/{thread_id}/state")
    completed = await client.complete(ref, {"name": "thread_id", "value": thread[:8]})
    assert thread in completed.completion.values, completed


async def subscriptions(client, thread, notes):
    uri = f"chat://threads/{thread}/state"
    change = {"thread_id": thread, "state": "done"}
    if MODE == "legacy":
        await client.subscribe_resource(uri)
        await client.send_ping()
        await call(client, "thread_set_state", **change)
        async with asyncio.timeout(60):
            while uri not in notes:
                await asyncio.sleep(0.02)
        await client.unsubscribe_resource(uri)
        return
    async with client.listen(resource_subscriptions=[uri]) as events:
        await call(client, "thread_set_state", **change)
        async with asyncio.timeout(60):
            async for event in events:
                if event.uri == uri:
                    return


async def main():
    notes = []

    async def heard(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            notes.append(str(message.params.uri))

    async with Client(transport(), mode=MODE, message_handler=heard) as client:
        wanted = ["2026-07-28"] if MODE != "legacy" else ["2025-11-25"]
        assert client.protocol_version in wanted, client.protocol_version
        if MODE == "legacy":
            assert "bus_connect" in client.instructions
        thread, _ = await conversation(client)
        await the_rest(client, thread)
        await subscriptions(client, thread, notes)
    print(f"python {TRANSPORT} {MODE}: the tour is complete")


asyncio.run(main())
