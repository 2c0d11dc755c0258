"""A relay before a database. It can cut a connection at any message."""

from __future__ import annotations

import selectors
import socket
import socketserver

MOST = 2**16


class Relay(socketserver.ThreadingTCPServer):
    """Forwards what clients and a server send each other, and counts what clients send.

    After ``cut(at)``, the message with that number, counted from then on, does not reach the
    server. After ``cut(at, answered=True)`` it reaches the server, whose answer is lost.
    """

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.sent, self.cuts = 0, 0
        self._at, self._answered = None, False

    @property
    def port(self):
        return self.server_address[1]

    def cut(self, at, *, answered=False):
        self.sent, self._at, self._answered = 0, at, answered

    def forwards(self, message, server):
        """Forward what a client sent; return whether its connection goes on."""
        self.sent += 1
        if self.sent != self._at:
            server.sendall(message)
            return True
        self._at, self.cuts = None, self.cuts + 1
        if self._answered:
            server.sendall(message)
            server.recv(MOST)
        return False


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        client = self.request
        with socket.create_connection(self.server.upstream) as server:
            while True:
                ready = _readable(client, server)
                message = ready.recv(MOST)
                if not message:
                    return
                if ready is server:
                    client.sendall(message)
                elif not self.server.forwards(message, server):
                    return


def _readable(*sockets):
    with selectors.DefaultSelector() as selector:
        for connection in sockets:
            selector.register(connection, selectors.EVENT_READ)
        return selector.select()[0][0].fileobj
