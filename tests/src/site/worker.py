# A service that works a little all the time, and goes wrong in the way that a file in /run/fault asks for. What the file
# holds is how much: bytes or things a second.
import os
import signal
import sys
import time

signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def asked(fault):
    try:
        with open("/run/fault/" + fault) as file:
            return float(file.read())
    except (FileNotFoundError, ValueError):
        return 0.0


due = {"leak": 0.0, "fds": 0.0, "disk": 0.0, "storm": 0.0, "errors": 0.0}


def share(fault, seconds, most):
    due[fault] += asked(fault) * seconds
    count = min(int(due[fault]), most)
    due[fault] -= int(due[fault])
    return count


leaked, files, crowd = [], [], 0
beats, last = 0, time.monotonic()
while True:
    now = time.monotonic()
    seconds, last = now - last, now
    beats += 1
    for _ in range(10000):
        pass
    if beats % 100 == 0:
        print("at work", beats, flush=True)
    if count := share("leak", seconds, 64 << 20):
        leaked.append(b"x" * count)
    for _ in range(share("fds", seconds, 100)):
        files.append(os.open("/dev/null", os.O_RDONLY))
    if count := share("disk", seconds, 64 << 20):
        with open("/srv/data/grown", "ab") as file:
            file.write(b"x" * count)
    for _ in range(share("errors", seconds, 500)):
        print("<3>cannot reach the database: connection refused", file=sys.stderr, flush=True)
    # Each that stays brings eight that end at once: what crashes is started again.
    for _ in range(share("storm", seconds, 100)):
        for child in range(9 if crowd < 1500 else 8):
            if os.fork() == 0:
                if child == 8:
                    time.sleep(600)
                os._exit(0)
        crowd += crowd < 1500
    if asked("burn"):
        while time.monotonic() < now + 0.1:
            pass
    else:
        time.sleep(0.1)
