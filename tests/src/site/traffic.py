# `traffic.py sink` takes whatever is sent to port 9000; `traffic.py ADDRESS` sends 32 KiB there, twice, every half second.
import socket
import sys
import threading
import time


def take(peer):
    with peer:
        try:
            while peer.recv(65536):
                pass
        except OSError:
            pass


def send():
    while True:
        try:
            with socket.create_connection((sys.argv[1], 9000), timeout=10) as peer:
                peer.sendall(b"x" * 32768)
        except OSError:
            pass
        time.sleep(0.5)


if sys.argv[1] == "sink":
    server = socket.create_server(("", 9000))
    while True:
        threading.Thread(target=take, args=(server.accept()[0],), daemon=True).start()
for _ in range(2):
    threading.Thread(target=send).start()
