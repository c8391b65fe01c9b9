"""A person at a terminal: typing, resizing, Ctrl-C, leaving and coming back."""

from __future__ import annotations

import pytest

from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
# `Terminal` is what a terminal program is to the client: a pseudo terminal with a size, and keys.
TERMINAL = """
import fcntl, pty, struct, termios
class Terminal:
    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)
        self.seen = ""
    def size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    def type(self, text):
        os.write(self.fd, text.encode())
    def until(self, text):
        end = time.monotonic() + 120
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen)
            try:
                self.seen += os.read(self.fd, 4096).decode()
            except OSError:
                raise AssertionError((text, self.seen))
        before, _, self.seen = self.seen.partition(text)
        return before
    def ask(self, command, answer):
        # What is typed is echoed: the answer must not be in it.
        self.type(command + "\\n")
        return self.until(answer)
    def end(self):
        try:
            while True:
                self.seen += os.read(self.fd, 4096).decode()
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
"""
SESSION = """
def main(image):
    shell = Terminal("docker", "run", "-it", "--name", "tty", image, "sh")
    shell.until("/ # ")
    shell.size(33, 77)
    for _ in range(50):
        shell.type("stty size; echo do''ne\\n")
        if "33 77" in shell.until("done"):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the size never arrived")
    shell.ask("sh -c 'echo beg${x}un; exec sleep 600'", "begun")
    shell.type("\\x03")
    shell.ask("echo ali''ve $?", "alive 130")
    # A second terminal in the same container.
    other = Terminal("docker", "exec", "-it", "tty", "sh")
    other.ask("tty", "/dev/pts/1")
    other.type("exit 9\\n")
    codes = [other.end()]
    shell.type("\\x10\\x11")
    codes.append(shell.end())
    back = Terminal("docker", "attach", "--detach-keys", "ctrl-x", "tty")
    time.sleep(0.5)
    back.ask("echo aga''in", "again")
    back.type("\\x18")
    codes.append(back.end())
    back = Terminal("docker", "start", "-ai", "tty")
    time.sleep(0.5)
    back.type("exit 5\\n")
    codes.append(back.end())
    return codes
"""


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_session_with_everything(gateway: GatewayHost, user: str):
    # Leaving says "read escape sequence", which the CLI takes for success when it attached, and for 1 when it ran.
    codes = gateway.python(user, TERMINAL + SESSION, image=IMAGE)
    assert codes[0] == 9
    assert codes[3] == 5
    assert codes[1:3] == [0, 1] or codes[1:3] == [0, 0]
    assert gateway.inspect(f"tty._.{gateway.uid[user]}")["State"]["ExitCode"] == 5
