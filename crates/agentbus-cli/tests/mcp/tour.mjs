// The tour of the TypeScript SDK: what an agent does, over one transport, with one of its lines.
//
// tour.mjs LINE TRANSPORT MODE URL TOKEN PROGRAM; LINE is v1 or v2, TRANSPORT http, sse or stdio,
// MODE legacy or 2026-07-28.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

const [line, kind, mode, url, token, program] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };

async function library() {
  if (line === "v2") {
    const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await import(
      "@modelcontextprotocol/client"
    );
    const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
    const versionNegotiation = { mode: mode === "legacy" ? "legacy" : { pin: mode } };
    const client = new Client({ name: "tour", version: "1" }, { versionNegotiation });
    return { client, SSEClientTransport, StreamableHTTPClientTransport, StdioClientTransport };
  }
  const sdk = "@modelcontextprotocol/sdk/client";
  const { Client } = await import(`${sdk}/index.js`);
  const { SSEClientTransport } = await import(`${sdk}/sse.js`);
  const { StreamableHTTPClientTransport } = await import(`${sdk}/streamableHttp.js`);
  const { StdioClientTransport } = await import(`${sdk}/stdio.js`);
  const client = new Client({ name: "tour", version: "1" });
  return { client, SSEClientTransport, StreamableHTTPClientTransport, StdioClientTransport };
}

function transport(sdk) {
  const requestInit = { headers };
  if (kind === "http") {
    return new sdk.StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit });
  }
  if (kind === "sse") {
    return new sdk.SSEClientTransport(new URL(`${url}/mcp/sse`), { requestInit });
  }
  const embedded = ["mcp", "--embedded", "--listen", "127.0.0.1:0"];
  const args = url ? ["--url", url, "mcp"] : embedded;
  return new sdk.StdioClientTransport({ command: program, args, env: process.env });
}

const sdk = await library();
const { client } = sdk;
await client.connect(transport(sdk));

async function call(name, args = {}) {
  const result = await client.callTool({ name, arguments: args });
  const text = result.content[0].text;
  try {
    return [result, JSON.parse(text)];
  } catch {
    return [result, text];
  }
}

const { tools } = await client.listTools();
assert.equal(tools.length, 12);
const topic = `Tour ${randomUUID()}`;
const join = { thread_name: topic, ide: "SDK" };
const [result, joined] = await call("bus_connect", { ...join, model: `TypeScript ${line}` });
assert.deepEqual(result.structuredContent.agent, joined.agent);
const { agent_id, token: secret } = joined.agent;
const thread_id = joined.thread.thread_id;
const sync = { expected_last_seq: joined.current_seq, reply_token: joined.reply_token };
const [, posted] = await call("msg_post", {
  thread_id,
  author: agent_id,
  content: "Hello from TypeScript",
  ...sync,
});
assert.ok(posted.reply_token);
const wait = { thread_id, after_seq: posted.seq, return_format: "json", timeout_ms: 20000 };
const waiting = call("msg_wait", { ...wait, agent_id, token: secret });
const [, other] = await call("bus_connect", { ...join, model: "Other" });
const [, answer] = await call("msg_post", {
  thread_id,
  author: other.agent.agent_id,
  token: other.agent.token,
  content: "A needle for you",
  expected_last_seq: other.current_seq,
  reply_token: other.reply_token,
});
const [, heard] = await waiting;
assert.deepEqual(heard.messages.map((one) => one.content), ["A needle for you"]);
const [, found] = await call("msg_search", { query: "needle", thread_id });
assert.equal(found.total, 1);
const edit = { message_id: posted.msg_id, new_content: "Hello again" };
const [, edited] = await call("msg_edit", { ...edit, agent_id, token: secret });
assert.equal(edited.version, 1);
const react = { message_id: answer.msg_id, agent_id, token: secret, reaction: "agree" };
assert.equal((await call("msg_react", react))[1].reaction, "agree");
assert.ok((await call("msg_list", { thread_id }))[0].content.length > 3);
assert.ok((await call("thread_list"))[1].threads.some((one) => one.thread_id === thread_id));
assert.ok((await call("agent_list"))[1].some((one) => one.agent_id === agent_id));
assert.equal((await call("thread_set_state", { thread_id, state: "done" }))[1].status, "done");
assert.ok((await call("bus_tools"))[1].tools.some((tool) => tool.name === "event_wait"));
assert.equal((await call("thread_get", { thread_id }))[1].status, "done");
const [wrong, text] = await call("thread_get");
assert.ok(wrong.isError && text.startsWith("Input validation error: 'thread_id'"), text);
const [, opened] = await call("event_wait", { pattern: "tour.*", timeout_ms: 0 });
await call("event_publish", { event_type: "tour.went", payload: { by: "typescript" } });
const { subscription_id } = opened;
const [, events] = await call("event_wait", { subscription_id, timeout_ms: 5000 });
assert.equal(events.events[0].type, "tour.went");

const uri = `chat://threads/${thread_id}/state`;
const { contents } = await client.readResource({ uri });
assert.equal(JSON.parse(contents[0].text).status, "done");
const { resourceTemplates } = await client.listResourceTemplates();
assert.equal(resourceTemplates.length, 3);
assert.equal((await client.listResources()).resources.length, 3);
assert.equal((await client.listPrompts()).prompts.length, 2);
const values = { topic: "T", transcript: "TR" };
const prompt = await client.getPrompt({ name: "summarize_thread", arguments: values });
assert.ok(prompt.messages[0].content.text.includes("TR"));
const ref = { type: "ref/prompt", name: "summarize_thread" };
const argument = { name: "topic", value: topic.slice(0, 10) };
const { completion } = await client.complete({ ref, argument });
assert.ok(completion.values.includes(topic));
if (mode === "legacy") {
  await client.subscribeResource({ uri });
  await client.unsubscribeResource({ uri });
  await client.ping();
}
await client.close();
console.log(`typescript ${line} ${kind} ${mode}: the tour is complete`);
process.exit(0);
