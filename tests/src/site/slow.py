# A service that answers over HTTP on port 8081, and from when /run/fault/slow is there on more slowly by so many
# milliseconds every minute.
import os
import socket
import time


def delay():
    try:
        with open("/run/fault/slow") as file:
            minutes = (time.time() - os.stat("/run/fault/slow").st_mtime) / 60
            return 0.002 + float(file.read()) * minutes / 1000
    except (FileNotFoundError, ValueError):
        return 0.002


server = socket.create_server(("127.0.0.1", 8081))
while True:
    peer, _ = server.accept()
    try:
        peer.settimeout(2)
        peer.recv(4096)
        time.sleep(delay())
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
    except OSError:
        pass
    peer.close()
