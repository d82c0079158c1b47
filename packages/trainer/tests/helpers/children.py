"""Forked processes in which tests can do what must not happen to the tests themselves."""

import ctypes
import os
import sys
import traceback
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform == "darwin",
    reason="needs os.fork, after which libraries of macOS may fail",
)
_SKIPPED = 77
_NEW_NAMESPACES = 0x00020000 | 0x10000000  # CLONE_NEWNS | CLONE_NEWUSER
_BIND, _REMOUNT, _READ_ONLY, _PRIVATE_BELOW = 4096, 32, 1, 0x4000 | (1 << 18)


class CannotError(Exception):
    """This system does not allow what the test needs."""


def run_in_child(action):
    """Call something in a forked process; its failure fails the test, CannotError skips it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except CannotError:
            code = _SKIPPED
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == _SKIPPED:
        pytest.skip("this system does not allow what the test needs, such as a mount of its own")
    assert code == 0, "see the traceback of the child"


def mount_small_disk(path, size):
    """Mount a file system in memory that only this process sees."""
    _enter_namespaces()
    _call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", 0, f"size={size}".encode())


def make_read_only(path):
    """Mount a directory onto itself, so that nobody can write to it; `mount_small_disk` comes first."""
    name = os.fsencode(path)
    _call("mount", name, name, None, _BIND, None)
    _call("mount", name, name, None, _BIND | _REMOUNT | _READ_ONLY, None)


def drop_privileges():
    """Let permissions count for this process, even if it belongs to root."""

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    if os.geteuid() == 0:
        _call("capset", ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)())


def _enter_namespaces():
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _NEW_NAMESPACES)
    try:
        for name, content in {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}.items():
            Path("/proc/self", name).write_text(content)
    except OSError as error:
        raise CannotError from error
    _call("mount", b"none", b"/", None, _PRIVATE_BELOW, None)


def _call(name, *arguments):
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None or function(*arguments) != 0:
        raise CannotError(name, ctypes.get_errno())
