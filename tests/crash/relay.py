"""A relay before a database, which cuts a connection at whichever message it is told to."""

from __future__ import annotations

import selectors
import socket
import socketserver

MOST = 2**16


class Relay(socketserver.ThreadingTCPServer):
    """Hands on what clients and a server say to each other, and counts what clients send.

    ``cut(at)`` has the message with that number, from then on, not reach the server;
    ``cut(at, answered=True)`` has it reach the server, whose answer then reaches nobody.
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

    def hands_on(self, message, server):
        """Hand on what a client sent; tell whether its connection lives on."""
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
                elif not self.server.hands_on(message, server):
                    return


def _readable(*sockets):
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        return selector.select()[0][0].fileobj
