"use strict";
// Everything that comes from the bus is put in with textContent, never as markup.
const EVENTS_SHOWN_MAX = 200;
const POLL_MS = 2000;
const RECONNECT_MS = 2000;
const byId = (id) => document.getElementById(id);
const element = (name, text) => {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
};

const origin = location.origin;
const rust = [
  `let bus = Bus::builder("me").transport("${origin}").connect().await?;`,
  `let reply = bus.invoke("wordcount", &json!("one two three")).await?;`,
].join("\n");
const commands = [
  `agentbus --url ${origin} handle wordcount -- wc -w`,
  `agentbus --url ${origin} invoke wordcount '"one two three"'`,
  `agentbus --url ${origin} sub '>'`,
  `agentbus --url ${origin} pub order.paid '{"n":1}'`,
  `curl -H "Authorization: Bearer $(agentbus token)" -d '"one two three"' ${origin}/v1/agents/wordcount/invoke`,
  rust,
];
for (const command of commands) {
  const line = element("li", "");
  const copy = element("button", "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command);
    copy.textContent = "Copied";
  });
  line.append(element("code", command), copy);
  byId("commands").append(line);
}

async function poll() {
  try {
    const answer = await fetch("/v1/targets");
    if (!answer.ok) throw new Error(`the bus answered ${answer.status}`);
    const { version, transport, uptime_s, published, targets } = await answer.json();
    byId("status").textContent =
      `version ${version} · ${transport} transport · up ${uptime_s} s · ${published} messages`;
    byId("nobody").hidden = targets.length > 0;
    byId("targets").replaceChildren(...targets.map((target) => {
      const row = element("tr", "");
      const cells = [target.name, target.agent, target.group ?? "", target.waiting, target.delivered];
      row.append(...cells.map((cell) => element("td", cell)));
      return row;
    }));
  } catch (error) {
    byId("status").textContent = `not connected: ${error.message}`;
  }
  setTimeout(poll, POLL_MS);
}

function show(envelope) {
  const line = element("li", "");
  line.append(
    element("time", new Date(envelope.occurred_at).toLocaleTimeString()),
    element("code", `${envelope.event_type} ${JSON.stringify(envelope.payload ?? null)}`),
  );
  byId("events").prepend(line);
  while (byId("events").childElementCount > EVENTS_SHOWN_MAX) byId("events").lastChild.remove();
}

function tail() {
  // Named events reach only named listeners, so the stream is read by hand.
  fetch("/v1/events").then(async (answer) => {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data: ")) show(JSON.parse(line.slice("data: ".length)));
      }
    }
  }).catch(() => {}).finally(() => setTimeout(tail, RECONNECT_MS));
}

poll();
tail();
