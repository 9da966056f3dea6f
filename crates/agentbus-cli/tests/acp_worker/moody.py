"""An agent that does one thing wrong, as its first argument says."""
import json
import sys

mood = sys.argv[1]


def write(message):
    message["jsonrpc"] = "2.0"
    print(json.dumps(message), flush=True)


def say(session, text):
    content = {"type": "text", "text": text}
    update = {"sessionUpdate": "agent_message_chunk", "content": content}
    write({"method": "session/update", "params": {"sessionId": session, "update": update}})


for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method, number = asked.get("method"), asked["id"]
    if mood == "garbage":
        print("Welcome!\n\n{\"half\":", flush=True)
    if method == "initialize":
        info = {"name": mood, "version": "1"}
        write({"id": number, "result": {"protocolVersion": 1, "agentInfo": info}})
    elif method == "session/new" and mood == "shut":
        write({"id": number, "error": {"code": -32000, "message": "log in at the desk first"}})
    elif method == "session/new":
        write({"id": number, "result": {"sessionId": "s"}})
    elif method == "session/prompt":
        say("somebody else", "not for you")
        if mood != "quiet":
            say("s", "half an answer")
        if mood == "dies":
            sys.exit(7)
        if mood == "gives-up":
            write({"id": number, "error": {"code": -32603, "message": "out of words"}})
        else:
            write({"id": number, "result": {"stopReason": "end_turn"}})
