"""An agent that says what it was given, and can be logged in to."""
import json
import os
import signal
import sys
import time

home = sys.argv[1]


def note(what):
    with open(os.path.join(home, "logged-in"), "a") as file:
        file.write(what + "\n")


if "--stubborn" in sys.argv:
    # Neither the end of its input nor a polite signal ends it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("stubborn %d" % os.getpid())
    while True:
        time.sleep(1)

if "--tui" in sys.argv:
    note("terminal %s %s" % (os.environ["LOGIN"], input("password: ")))
    sys.exit(int(os.environ.get("TUI_EXIT", "0")))

for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {}
    if asked["method"] == "initialize":
        methods = [] if "--terminal-only" in sys.argv else [{"id": "own", "name": "By itself"}]
        if "--many" in sys.argv:
            names = ["x" * 129] + ["m%d" % number for number in range(60)]
            methods = [{"id": name, "name": name} for name in names]
        capabilities = asked["params"].get("clientCapabilities", {})
        if capabilities.get("auth", {}).get("terminal"):
            methods.append({"id": "tui", "name": "In a terminal", "type": "terminal", "args": ["--tui"], "env": {"LOGIN": "yes"}})
        result = {"protocolVersion": 1, "agentCapabilities": {}, "authMethods": methods}
    elif asked["method"] == "_given":
        print("a word on the side", file=sys.stderr, flush=True)
        result = {"variables": dict(os.environ), "arguments": sys.argv[2:], "process": os.getpid()}
    elif asked["method"] == "authenticate":
        note("agent " + asked["params"]["methodId"])
    else:
        result = {"authorization": asked.get("headers", {}).get("Authorization")}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
