#!/usr/bin/env python3
"""A chat client for `chatstorm.v1.json`, written from docs/protocol.md alone, with the standard library only.

    python3 tests/foreign/python/chat.py --entry 127.0.0.1:7101 --user 9000001 --to 1 --say "hello" --wait 5

gets a token, connects, says hello, sends, prints what arrives, acknowledges it, and ends when the wait is over. It resumes with
--state FILE. Exit codes: 0 done; 1 the connection ended or a send was refused or not answered; 2 usage.
"""
import argparse
import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import sys
import time
import uuid

MESSAGE_MAX = 128 * 1024
PATIENCE_S = 40
SEND_ACK_S = 5
SUBPROTOCOL = "chatstorm.v1.json"


class Closed(Exception):
    """The connection ended; `code` is None when the socket died."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason}".strip())
        self.code = code


class WebSocket:
    """The client side of RFC 6455: masked text messages, fragments, pings, close."""

    def __init__(self, host, port, path):
        self.sock = socket.create_connection((host, port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}", "", "",
        ]
        self.sock.sendall("\r\n".join(lines).encode())
        head, self.buffer = self._head()
        status, *rest = head.split("\r\n")
        if " 101 " not in status + " ":
            raise Closed(None, f"the handshake was answered with: {status}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        wanted = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        if headers.get("sec-websocket-accept") != wanted or headers.get("sec-websocket-protocol") != SUBPROTOCOL:
            raise Closed(None, "the handshake was answered by something else")

    def _head(self):
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(4096)
            if not part or len(data) > 16384:
                raise Closed(None, "no handshake")
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest

    def _need(self, count, deadline):
        while len(self.buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            part = self.sock.recv(65536)
            if not part:
                raise Closed(None)
            self.buffer += part

    def send(self, opcode, payload):
        mask = os.urandom(4)
        length = len(payload)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
        pattern = (mask * (length // 4 + 1))[:length]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(length, "big") if length else b""
        self.sock.settimeout(10)
        self.sock.sendall(head + mask + masked)

    def _frame(self, deadline):
        # Nothing is taken from the buffer before the frame is whole, so that a timeout in between loses nothing.
        self._need(2, deadline)
        final, opcode, length, at = self.buffer[0] & 0x80, self.buffer[0] & 0x0F, self.buffer[1] & 0x7F, 2
        if length == 126:
            self._need(4, deadline)
            length, at = struct.unpack("!H", self.buffer[2:4])[0], 4
        elif length == 127:
            self._need(10, deadline)
            length, at = struct.unpack("!Q", self.buffer[2:10])[0], 10
        if length > MESSAGE_MAX:
            raise Closed(1009, "a message above the limit")
        self._need(at + length, deadline)
        payload, self.buffer = self.buffer[at:at + length], self.buffer[at + length:]
        return final, opcode, payload

    def receive(self, deadline):
        """One whole text message; raises TimeoutError at the deadline."""
        message = b""
        while True:
            final, opcode, payload = self._frame(deadline)
            if opcode == 8:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                try:
                    self.send(8, payload[:2])
                except OSError:
                    pass
                raise Closed(code, payload[2:].decode("utf-8", "replace"))
            if opcode == 9:
                self.send(10, payload)
            elif opcode in (0, 1):
                message += payload
                if final:
                    return message.decode("utf-8")
            elif opcode != 10:
                raise Closed(1003, f"a message of type {opcode}")

    def close(self):
        try:
            self.send(8, struct.pack("!H", 1000))
        finally:
            self.sock.close()


class Chat:
    """One device on one connection."""

    def __init__(self, host, port, user, index, state, resume=None):
        self.state_path, self.state = state, {"cursor": None, "shown": {}}
        if state and os.path.exists(state):
            with open(state, encoding="utf-8") as file:
                self.state = json.load(file)
        self.user, self.device = user, user * 256 + index
        self.outbox, self.waiting, self.refused = [], {}, 0
        self.token = self._token(host, port, index)
        self.socket = WebSocket(host, port, "/v1/ws")
        hello = {"token": self.token, "device": self.device, "class": "mobile", "proto": 1}
        if resume or self.state["cursor"]:
            hello["resume"] = resume or self.state["cursor"]
        self._write("hello", hello)
        name, welcome = self._read(time.monotonic() + 10)
        if name != "welcome":
            raise Closed(1002, f"`{name}` instead of `welcome`")
        self.clock = welcome["server_ms"] - time.monotonic() * 1000
        self.resume, self.epoch, self.next = welcome["resume"], welcome["epoch"], welcome["next_dseq"]
        self.unacked, self.last_ack = 0, time.monotonic()
        print(f"welcome from {welcome['node']}, resume {self.resume}, next item {self.next}", flush=True)

    def _token(self, host, port, index):
        http_link = http.client.HTTPConnection(host, port, timeout=10)
        body = json.dumps({"user": self.user, "device": index, "class": "mobile"})
        http_link.request("POST", "/v1/tokens", body, {"content-type": "application/json"})
        answer = http_link.getresponse()
        text = answer.read().decode()
        http_link.close()
        if answer.status not in (200, 201):
            raise Closed(None, f"no token: {answer.status} {text}")
        return json.loads(text)["token"]

    def _write(self, name, fields):
        self.socket.send(1, json.dumps({name: fields}, separators=(",", ":")).encode())

    def _read(self, deadline):
        ((name, fields),) = json.loads(self.socket.receive(deadline)).items()
        return name, fields

    def say(self, to, text):
        low, high = sorted((self.user, to))
        now = int(time.monotonic() * 1000 + self.clock)
        unique = uuid.UUID(int=(now << 80) | (7 << 76) | (int.from_bytes(os.urandom(9), "big") & ~(3 << 62) & ((1 << 76) - 1)) | (2 << 62))
        send = {"cid": str(unique), "attempt": 1, "conv": f"d{low}-{high}", "kind": 0,
                "body": base64.b64encode(text.encode()).decode()}
        self.outbox.append(send)

    def write(self):
        # One unanswered send a conversation, and this client talks in one.
        if self.outbox and not self.waiting:
            send = self.outbox.pop(0)
            send["client_ms"] = int(time.monotonic() * 1000 + self.clock)
            self.waiting[send["cid"]] = [send, time.monotonic()]
            self._write("send", send)
        for entry in self.waiting.values():
            send, at = entry
            if time.monotonic() - at >= SEND_ACK_S:
                send["attempt"] += 1
                entry[1] = time.monotonic()
                self._write("send", send)

    def ack(self, force=False):
        due = self.unacked >= 8 or time.monotonic() - self.last_ack >= 0.1
        if self.unacked and (due or force):
            self._write("ack", {"dseq": self.next - 1})
            self.unacked, self.last_ack = 0, time.monotonic()
            self.state["cursor"] = {"epoch": self.epoch, "dseq": self.next - 1}
            if self.state_path:
                with open(self.state_path, "w", encoding="utf-8") as file:
                    json.dump(self.state, file)

    def take(self, name, fields):
        if name in ("deliver", "receipt"):
            if fields["dseq"] != self.next:
                raise Closed(1002, f"item {fields['dseq']} instead of {self.next}")
            self.next += 1
            self.unacked += 1
        if name == "deliver":
            # Order and identity are (conv, cseq): what was shown is not shown again.
            shown = self.state["shown"].get(fields["conv"], 0)
            if fields["cseq"] > shown:
                self.state["shown"][fields["conv"]] = fields["cseq"]
                body = base64.b64decode(fields["body"])
                print(f"{fields['conv']} #{fields['cseq']} from {fields['from']}: {body.decode('utf-8', 'backslashreplace')}", flush=True)
        elif name == "receipt":
            print(f"{fields['conv']} delivered to {fields['who']} up to #{fields['delivered']}", flush=True)
        elif name == "sent":
            send = self.waiting.pop(fields["cid"], None)
            if send:
                print(f"{send[0]['conv']} #{fields['cseq']} sent{' (again)' if fields['dup'] else ''}", flush=True)
        elif name == "reject":
            if not fields["retryable"]:
                self.refused += 1
                self.waiting.pop(fields["cid"], None)
            print(f"refused: {fields['code']}, effect {fields['effect']}", flush=True)
        elif name == "reset":
            self.epoch, self.next, self.unacked = fields["epoch"], fields["next_dseq"], 0
        elif name == "ping":
            self._write("pong", {"t_ms": fields["t_ms"]})
        elif name == "drain":
            raise Closed(1012, f"the node leaves, reconnect in {fields['reconnect_in_ms']} ms")
        elif name == "error":
            print(f"error {fields['code']}: {fields['text']}", flush=True)
        elif name not in ("caught_up", "pong"):
            raise Closed(1002, f"unknown frame `{name}`")

    def run(self, seconds):
        end, last_frame = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            self.write()
            self.ack()
            try:
                name, fields = self._read(min(end, time.monotonic() + 0.05))
            except TimeoutError:
                if time.monotonic() - last_frame > PATIENCE_S:
                    raise Closed(None, "silent for too long") from None
                continue
            last_frame = time.monotonic()
            self.take(name, fields)
        self.ack(force=True)


def main():
    parser = argparse.ArgumentParser(description="A foreign client of chatstorm.v1.json.")
    parser.add_argument("--entry", default="127.0.0.1:7101", help="host:port of a gateway or the balancer")
    parser.add_argument("--user", type=int, required=True, help="who this is")
    parser.add_argument("--device", type=int, default=0, help="index of the device")
    parser.add_argument("--to", type=int, help="whom --say is for")
    parser.add_argument("--say", action="append", default=[], help="a message; may be repeated")
    parser.add_argument("--wait", type=float, default=5, help="seconds to stay and print what arrives")
    parser.add_argument("--state", help="file that keeps cursor and what was shown, for resuming")
    args = parser.parse_args()
    if args.say and args.to is None:
        parser.error("--say needs --to")
    host, _, port = args.entry.rpartition(":")
    try:
        chat = Chat(host, int(port), args.user, args.device, args.state)
        for text in args.say:
            chat.say(args.to, text)
        chat.run(args.wait)
        chat.socket.close()
    except (Closed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    unanswered = len(chat.waiting) + len(chat.outbox)
    if unanswered or chat.refused:
        print(f"error: {unanswered} not answered, {chat.refused} refused", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
