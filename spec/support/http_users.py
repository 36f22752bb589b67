"""An HTTP service that knows users, for the example http_auth.lua.

Prints its port.  joe's password is 'se"cret\\', slow's comes after the request
of another user, broken's question is answered with 500.  /quit ends it.
"""
import http.server
import json
import sys
import threading

released = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user, password = asked["user"], asked["password"]
        if user == "slow":
            released.wait(20)
        else:
            released.set()
        if user == "broken":
            self.answer(500)
        elif user in ("joe", "slow") and password == 'se"cret\\':
            self.answer(200)
        else:
            self.answer(403)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
print("port=%d" % server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
