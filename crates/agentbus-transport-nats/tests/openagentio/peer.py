"""An OpenAgentIO agent that does what it is told, one JSON line at a time.

Each line on standard input is an operation with an `id`; each line on standard output is its
answer, or an event that a subscription received.
"""

import asyncio
import json
import sys

from openagentio import (
    Bus,
    Envelope,
    InvalidRequestError,
    NATSDriver,
    WithAgentID,
    WithHandleQueue,
    WithQueue,
    WithSessionPropagation,
    WithTenant,
    WithTimeout,
    WithTransport,
)


def say(**line):
    print(json.dumps(line), flush=True)


async def echo(env):
    return env.payload_json()


async def refuse(env):
    raise InvalidRequestError("no such order")


async def crash(env):
    raise ValueError("boom")


async def adopted(env):
    reply = Envelope.new("agent.response.final")
    reply.payload = b'{"adopted":true}'
    reply.metadata = {"mine": "yes", "acp.hidden": "no"}
    return reply


def nested(bus, target):
    async def handler(env):
        reply = await bus.invoke(target, {"via": "python"})
        return reply.to_dict()

    return handler


async def talk(env, out):
    await out.started({"model": "demo"})
    await out.delta({"delta": "hello "})
    await out.delta({"delta": "world"})
    await out.final({"result": {"text": "hello world"}})


async def stumble(env, out):
    await out.delta({"delta": "he"})
    raise InvalidRequestError("lost the thread")


INVOKE = {"echo": echo, "refuse": refuse, "crash": crash, "adopted": adopted}
STREAM = {"talk": talk, "stumble": stumble}


def request(op):
    env = Envelope.new("agent.message.received")
    env.payload = json.dumps(op.get("payload")).encode()
    for key in ("session_id", "trace_id", "conversation_id", "user_id", "tenant_id"):
        if key in op:
            setattr(env, key, op[key])
    env.metadata = op.get("metadata")
    return env


async def run(bus, op):
    kind = op["op"]
    if kind == "handle":
        options = [WithHandleQueue(op["queue"])] if "queue" in op else []
        handler = nested(bus, op["to"]) if op["does"] == "nested" else INVOKE[op["does"]]
        await bus.handle_invoke(op["target"], handler, *options)
    elif kind == "handle_stream":
        await bus.handle_stream(op["target"], STREAM[op["does"]])
    elif kind == "subscribe":
        async def on(env, name=op["name"]):
            say(event=env.to_dict(), name=name)

        options = [WithQueue(op["queue"])] if "queue" in op else []
        await bus.subscribe(op["type"], on, *options)
    elif kind == "publish":
        env = Envelope.new(op["type"])
        env.payload = json.dumps(op["payload"]).encode()
        await bus.publish(env)
    elif kind == "invoke":
        reply = await bus.invoke(op["target"], request(op), WithTimeout(op.get("timeout", 10)))
        return reply.to_dict()
    elif kind == "stream":
        frames = await bus.stream_invoke(op["target"], request(op), WithTimeout(10))
        return [frame.to_dict() async for frame in frames]
    elif kind == "flush":
        await bus.transport.flush()
    else:
        raise ValueError(f"no operation {kind}")
    return None


async def answer(bus, op):
    try:
        say(id=op["id"], ok=await run(bus, op))
    except Exception as error:  # The test decides what an error means.
        say(id=op["id"], error=type(error).__name__, text=str(error))


async def main():
    url, agent, tenant = sys.argv[1:4]
    bus = Bus.new(
        WithAgentID(agent),
        WithTransport(NATSDriver(url)),
        WithTenant(tenant),
        WithSessionPropagation(True),
    )
    await bus.connect()
    say(ready=True)
    loop = asyncio.get_running_loop()
    tasks = set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        # Side by side, as a caller and the handler that it calls may be the same process.
        task = asyncio.create_task(answer(bus, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await bus.close()


asyncio.run(main())
