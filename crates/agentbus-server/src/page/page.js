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

// The bus itself says what is true of it; it does not know of a proxy in front of it.
async function connect() {
  try {
    const answer = await fetch("/v1/connect");
    if (!answer.ok) throw new Error(`the bus answered ${answer.status}`);
    const { lines } = await answer.json();
    const here = lines.map((line) => line.replaceAll(`http://${location.host}`, location.origin));
    byId("commands").replaceChildren(...here.map(copyable));
  } catch {
    setTimeout(connect, RECONNECT_MS);
  }
}

function copyable(command) {
  const line = element("li", "");
  const copy = element("button", "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command);
    copy.textContent = "Copied";
  });
  line.append(element("code", command), copy);
  return line;
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
      const name = target.tenant ? `${target.name} (tenant ${target.tenant})` : target.name;
      const cells = [name, target.agent, target.group ?? "", target.waiting, target.delivered];
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

connect();
poll();
tail();
