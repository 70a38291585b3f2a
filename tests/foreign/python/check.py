#!/usr/bin/env python3
"""Walks through docs/protocol.md with the client of chat.py, against a system that `chatstorm up` started.

    chatstorm up &
    python3 tests/foreign/python/check.py 127.0.0.1:7101 127.0.0.1:7102

The first address is talked to, the second one is reconnected to. Prints what it did, a line a story. Exit codes: 0 the system
does what the page says; 1 it does not; 2 usage.
"""
import http.client
import json
import sys
import time

from chat import Chat, Closed, WebSocket

ANSWERS = 1
"""The user of `chatstorm up` whose device sends every message back."""
ME = 9000001
STRANGER = 9000002
WAIT_S = 10


class Wrong(Exception):
    """The system did not do what the page says."""


def expect(holds, what):
    if not holds:
        raise Wrong(what)


def host_port(entry):
    host, _, port = entry.rpartition(":")
    return host, int(port)


def until(chat, holds, what):
    """Takes frames until something holds; gives back all frames that came."""
    deadline, came = time.monotonic() + WAIT_S, []
    while not holds(came):
        expect(time.monotonic() < deadline, f"{what}: only {came} came within {WAIT_S} s")
        chat.write()
        chat.ack()
        try:
            frame = chat._read(min(deadline, time.monotonic() + 0.05))
        except TimeoutError:
            continue
        came.append(frame)
        chat.take(*frame)
    return came


def named(frames, name):
    return [fields for known, fields in frames if known == name]


def message_comes_back(chat):
    chat.say(ANSWERS, "hello from another language")
    send = dict(chat.outbox[0])
    want = ("sent", "deliver", "receipt")
    came = until(chat, lambda frames: all(named(frames, name) for name in want), "`sent`, `deliver` and `receipt`")
    sent, deliver, receipt = (named(came, name)[0] for name in want)
    expect(sent["cid"] == send["cid"] and not sent["dup"], f"`sent` answers the send: {sent}")
    expect(deliver["from"] == ANSWERS and deliver["body"] == send["body"], f"the echo carries the body: {deliver}")
    expect(deliver["cseq"] == sent["cseq"] + 1, f"the echo is next in the conversation: {sent}, {deliver}")
    expect(receipt["who"] == ANSWERS and receipt["delivered"] >= sent["cseq"], f"the receipt covers it: {receipt}")
    chat.ack(force=True)
    return send, sent


def repeated_send_is_the_same_message(chat, send, sent):
    chat._write("send", {**send, "attempt": 2, "client_ms": int(time.monotonic() * 1000 + chat.clock)})
    again = named(until(chat, lambda frames: named(frames, "sent"), "`sent` for a repeated `cid`"), "sent")[0]
    same = (again["mid"], again["cseq"]) == (sent["mid"], sent["cseq"])
    expect(same and again["dup"], f"a repeated `cid` gets the first answer: {again}")


def cid_of_another_device_is_refused(entry, send):
    chat = Chat(*host_port(entry), ME, 1, None)
    chat._write("send", {**send, "client_ms": int(time.monotonic() * 1000 + chat.clock)})
    reject = named(until(chat, lambda frames: named(frames, "reject"), "`reject`"), "reject")[0]
    right = reject["code"] == "cid-taken" and reject["effect"] == "none" and not reject["retryable"]
    expect(right, f"the `cid` of another device's message is refused for good: {reject}")
    chat.socket.close()


def foreign_conversation_is_refused(chat):
    cid = "01930000-0000-7000-8000-00000000000f"
    now = int(time.monotonic() * 1000 + chat.clock)
    chat._write("send", {"cid": cid, "attempt": 1, "conv": f"d{ANSWERS}-{STRANGER}", "kind": 0, "body": "", "client_ms": now})
    reject = named(until(chat, lambda frames: named(frames, "reject"), "`reject`"), "reject")[0]
    right = reject["code"] == "forbidden" and reject["effect"] == "none" and not reject["retryable"]
    expect(right, f"a sender outside the conversation is refused for good: {reject}")


def unknown_fields_are_ignored(chat):
    chat._write("ping", {"t_ms": 42, "mood": "good"})
    pong = named(until(chat, lambda frames: named(frames, "pong"), "`pong`"), "pong")[0]
    expect(pong["t_ms"] == 42, f"`pong` repeats the stamp: {pong}")


def request(entry, method, path, token, body=None):
    link = http.client.HTTPConnection(*host_port(entry), timeout=10)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    link.request(method, path, None if body is None else json.dumps(body), headers)
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer, json.loads(text) if text else None


def history_has_the_message(entry, chat, send, sent):
    path = f"/v1/conversations/{send['conv']}/messages"
    answer, page = request(entry, "GET", f"{path}?after={sent['cseq'] - 1}&limit=1&min_cseq={sent['cseq']}", chat.token)
    expect(answer.status == 200 and len(page["messages"]) == 1, f"a page of one message: {answer.status} {page}")
    row = page["messages"][0]
    same = all(row[key] == sent[key] for key in ("cid", "mid", "cseq")) and row["body"] == send["body"]
    expect(same and row["from"] == ME and row["from_device"] == ME * 256, f"history has the message: {row}")
    again = {"kind": 0, "body": send["body"], "client_ms": row["client_ms"], "attempt": 3}
    answer, body = request(entry, "PUT", f"{path}/{send['cid']}", chat.token, again)
    expect(answer.status == 200 and body["dup"] and body["cseq"] == sent["cseq"], f"the same over REST: {answer.status} {body}")
    answer, problem = request(entry, "GET", path, "v1.no.token")
    kind = answer.getheader("content-type")
    expect(answer.status == 401 and kind == "application/problem+json", f"a bad token is a problem document: {problem}")


def connection_ends(entry, code, *messages, after_hello=None):
    """Opens a connection, says the messages (opcode, payload), and expects this close code."""
    socket = WebSocket(*host_port(entry), "/v1/ws")
    try:
        if after_hello is not None:
            hello(socket, after_hello)
            deadline = time.monotonic() + WAIT_S
            while "welcome" not in json.loads(socket.receive(deadline)):
                pass
        for opcode, payload in messages:
            socket.send(opcode, payload)
        deadline = time.monotonic() + WAIT_S
        while True:
            socket.receive(deadline)
    except Closed as closed:
        expect(closed.code == code, f"close code {code}, and it was {closed.code}")
    except TimeoutError:
        raise Wrong(f"close code {code}, and the connection stays") from None
    finally:
        socket.sock.close()


def text(name, fields):
    return 1, json.dumps({name: fields}).encode()


def hello(socket, chat, **changed):
    fields = {"token": chat.token, "device": chat.device, "class": "mobile", "proto": 1, **changed}
    socket.send(*text("hello", fields))


def mistakes_end_with_their_code(entry, stranger):
    ok = {"token": stranger.token, "device": stranger.device, "class": "mobile", "proto": 1}
    connection_ends(entry, 1002, text("ack", {"dseq": 0}))
    connection_ends(entry, 1002, text("no_such_frame", {}))
    connection_ends(entry, 1002, text("ack", {"dseq": 1_000_000}), after_hello=stranger)
    connection_ends(entry, 1003, (2, b"\x81\xa3ack\x81\xa4dseq\x00"))
    connection_ends(entry, 1009, (1, b"x" * (128 * 1024 + 1)))
    connection_ends(entry, 4401, text("hello", {**ok, "token": "v1.no.token"}))
    connection_ends(entry, 4401, text("hello", {**ok, "device": stranger.device + 1}))
    connection_ends(entry, 4500, text("hello", {**ok, "proto": 2}))


def goodbye_is_answered(entry, stranger):
    connection_ends(entry, 1000, (8, b"\x03\xe8"), after_hello=stranger)


def newer_connection_displaces(entry, other, old):
    new = Chat(*host_port(other), STRANGER, 0, None)
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            old._read(deadline)
    except Closed as closed:
        expect(closed.code == 4509, f"the older connection ends with 4509, and it was {closed.code}")
    except TimeoutError:
        raise Wrong("the older connection of a device stays") from None
    finally:
        new.socket.close()
    expect(entry != other, "two different addresses are needed")


def resume_goes_on(other, chat):
    cursor = {"epoch": chat.epoch, "dseq": chat.next - 1}
    chat.socket.close()
    again = Chat(*host_port(other), ME, 0, None, resume=cursor)
    right = again.resume == "ok" and again.next == cursor["dseq"] + 1
    expect(right, f"a cursor is honoured by another gateway: {again.resume}, next item {again.next}")
    until(again, lambda frames: named(frames, "caught_up"), "`caught_up`")
    again.socket.close()


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    entry, other = arguments
    try:
        chat = Chat(*host_port(entry), ME, 0, None)
        send, sent = message_comes_back(chat)
        print(f"a message was sent as {send['conv']} #{sent['cseq']}, delivered, and came back")
        repeated_send_is_the_same_message(chat, send, sent)
        cid_of_another_device_is_refused(entry, send)
        print("a repeated `cid` got the first answer, from another device it was refused")
        foreign_conversation_is_refused(chat)
        unknown_fields_are_ignored(chat)
        print("a foreign conversation was refused, an unknown field ignored")
        history_has_the_message(entry, chat, send, sent)
        print("history has the message, and REST knows its `cid`")
        resume_goes_on(other, chat)
        print("the cursor was honoured by another gateway")
        stranger = Chat(*host_port(entry), STRANGER, 0, None)
        newer_connection_displaces(entry, other, stranger)
        print("a newer connection displaced the older one")
        mistakes_end_with_their_code(entry, stranger)
        print("every mistake ended with its close code")
        goodbye_is_answered(entry, stranger)
        print("a close frame was answered with one")
    except (Closed, OSError, TimeoutError, Wrong) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
