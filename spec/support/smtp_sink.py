"""An SMTP server that keeps what it is given: smtp_sink.py PORT DIR

Each message becomes a file DIR/N with the envelope in its first line, dots unstuffed.
"""
import pathlib
import socketserver
import sys

directory = pathlib.Path(sys.argv[2])
count = 0


class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 sink.example ready")
        envelope = []
        while line := self.rfile.readline():
            words = line.decode().strip()
            verb = words[:4].upper()
            if verb == "EHLO":
                self.say("250-sink.example")
                self.say("250 8BITMIME")
            elif verb in ("MAIL", "RCPT"):
                envelope.append(words)
                self.say("550 unknown" if "nobody" in words else "250 fine")
            elif verb == "DATA":
                self.say("354 go on")
                self.keep(envelope)
                envelope = []
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 fine")

    def keep(self, envelope):
        global count
        lines = ["; ".join(envelope).encode() + b"\r\n"]
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        count += 1
        (directory / str(count)).write_bytes(b"".join(lines))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", int(sys.argv[1])), Session) as server:
    server.serve_forever()
