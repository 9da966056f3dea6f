// An agent on the TypeScript SDK. Its prompts say what it does.
import * as acp from "@agentclientprotocol/sdk";
import { Readable, Writable } from "node:stream";

const sessions = new Map();
const { agent: theirs, client: ours } = acp.methods;

function update(client, sessionId, update) {
  return client.notify(ours.session.update, { sessionId, update });
}

function say(client, sessionId, text, sessionUpdate = "agent_message_chunk") {
  return update(client, sessionId, { sessionUpdate, content: { type: "text", text } });
}

async function stream(client, sessionId) {
  await say(client, sessionId, "hm", "agent_thought_chunk");
  await update(client, sessionId, {
    sessionUpdate: "plan",
    entries: [{ content: "count", priority: "high", status: "in_progress" }],
  });
  await say(client, sessionId, "one ");
  await update(client, sessionId, {
    sessionUpdate: "tool_call", toolCallId: "t1", title: "Count", kind: "think", status: "in_progress",
  });
  await say(client, sessionId, "two ");
  await update(client, sessionId, { sessionUpdate: "tool_call_update", toolCallId: "t1", status: "completed" });
  await say(client, sessionId, "three");
}

async function permission(client, sessionId) {
  const { outcome } = await client.request(ours.session.requestPermission, {
    sessionId,
    toolCall: { toolCallId: "t2", title: "Edit a file", kind: "edit" },
    options: [
      { optionId: "allow", name: "Allow", kind: "allow_once" },
      { optionId: "reject", name: "Reject", kind: "reject_once" },
    ],
  });
  await say(client, sessionId, outcome.outcome === "selected" ? `allowed with ${outcome.optionId}` : "cancelled");
}

async function read(client, sessionId, path) {
  try {
    const { content } = await client.request(ours.fs.readTextFile, { sessionId, path });
    await say(client, sessionId, content);
  } catch (error) {
    await say(client, sessionId, `refused: ${error.message}`);
  }
}

async function prompt({ params, client }) {
  const { sessionId } = params;
  const session = sessions.get(sessionId);
  session.prompts += 1;
  const [verb, argument] = params.prompt[0].text.split(" ");
  if (verb === "stream") await stream(client, sessionId);
  if (verb === "permission") await permission(client, sessionId);
  if (verb === "read") await read(client, sessionId, argument);
  if (verb === "count") await say(client, sessionId, String(session.prompts));
  if (verb === "crash") process.exit(9);
  if (verb === "wait") {
    const cancelled = new Promise((resolve) => { session.cancel = resolve; });
    await say(client, sessionId, "waiting");
    await cancelled;
    return { stopReason: "cancelled" };
  }
  return { stopReason: "end_turn" };
}

acp.agent({ name: "typescript" })
  .onRequest(theirs.initialize, () => ({ protocolVersion: acp.PROTOCOL_VERSION, agentCapabilities: {} }))
  .onRequest(theirs.session.new, () => {
    const sessionId = crypto.randomUUID();
    sessions.set(sessionId, { prompts: 0 });
    return { sessionId };
  })
  .onRequest(theirs.session.prompt, prompt)
  .onNotification(theirs.session.cancel, ({ params }) => sessions.get(params.sessionId)?.cancel?.())
  .connect(acp.ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)));
