// The TypeScript SDK as the client of an agent: a tour of what a client can ask for.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { Readable, Writable } from "node:stream";

import * as acp from "@agentclientprotocol/sdk";

const [agent, mcp] = process.argv.slice(2);

async function connected(work) {
  const child = spawn(agent, [], { stdio: ["pipe", "pipe", "inherit"] });
  const stream = acp.ndJsonStream(Writable.toWeb(child.stdin), Readable.toWeb(child.stdout));
  const updates = [];
  let asked = 0;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await acp
    .client({ name: "tour" })
    .onRequest(acp.methods.client.session.requestPermission, ({ params }) => {
      asked += 1;
      const option = params.options.find((option) => option.kind === "allow_once");
      return { outcome: { outcome: "selected", optionId: option.optionId } };
    })
    .onNotification(acp.methods.client.session.update, ({ params }) => {
      updates.push(params.update);
    })
    .connectWith(stream, async (client) => {
      const said = () => {
        const chunks = updates.filter((update) => update.sessionUpdate === "agent_message_chunk");
        return chunks.map((update) => update.content.text).join("|");
      };
      await client.request(acp.methods.agent.initialize, {
        protocolVersion: acp.PROTOCOL_VERSION,
        clientCapabilities: {},
      });
      await work(client, updates, said, () => asked);
    });
  child.stdin.end();
  assert.equal(await ended, 0);
}

const { session } = acp.methods.agent;
const prompt = (sessionId, ...texts) => ({
  sessionId,
  prompt: texts.map((text) => ({ type: "text", text })),
});
let kept;

await connected(async (client, updates, said, asked) => {
  const servers = [{ name: "echo", command: mcp, args: ["worker", "mcp-echo"], env: [] }];
  const opened = await client.request(session.new, { cwd: process.cwd(), mcpServers: servers });
  kept = opened.sessionId;
  const done = await client.request(session.prompt, prompt(kept, "one", "two"));
  assert.equal(done.stopReason, "end_turn");
  assert.equal(said(), "one|two");

  await client.request(session.prompt, prompt(kept, '/tool reverse {"text": "abc"}'));
  assert.equal(asked(), 1);
  assert.ok(updates.some((update) => update.status === "completed"));
  assert.equal(said(), "one|two|cba");

  const waiting = client.request(session.prompt, prompt(kept, "/wait 60"));
  await client.notify(session.cancel, { sessionId: kept });
  assert.equal((await waiting).stopReason, "cancelled");
  assert.equal((await client.request(session.prompt, prompt(kept, "on"))).stopReason, "end_turn");
});

await connected(async (client, updates, said) => {
  const listed = await client.request(session.list, { cwd: process.cwd() });
  assert.deepEqual(listed.sessions.map((one) => [one.sessionId, one.title]), [[kept, "one"]]);
  await client.request(session.load, { sessionId: kept, cwd: process.cwd(), mcpServers: [] });
  // In one piece or in as many as it was said in.
  assert.equal(said().replaceAll("|", ""), "onetwocbaon");
  const asked = updates.filter((update) => update.sessionUpdate === "user_message_chunk");
  assert.equal(asked[0].content.text, "one");
  await client.request(session.delete, { sessionId: kept });
  assert.deepEqual((await client.request(session.list, {})).sessions, []);
});

console.log("the tour is complete");
