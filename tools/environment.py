"""Make a virtual environment from a hashed lock file: ``python3 tools/environment.py .venv requirements-local.lock``.

Needs nothing but a Python 3.11 or newer, not even ``ensurepip`` (Debian ships Python without it). Everything that
gets installed is checked against a hash: first ``tools/bootstrap.lock`` (pip, setuptools, wheel, uv), then the lock
file, then this checkout itself as an editable package. Where packages come from is the user's pip configuration
(PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf …), handed on to uv, which is the quicker installer; pip is the fallback.
Standard library only; the last line touches ``<folder>/ready``, the stamp the Makefile looks at.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOOTSTRAP = ROOT / "tools" / "bootstrap.lock"
PYTHONS = ("python3.13", "python3.12", "python3.11")
# pip's option → uv's environment variable; pip separates by blanks, uv finds links by commas
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def run(*command: object, env: dict[str, str] | None = None) -> bool:
    """Run a command; whether it succeeded."""
    return subprocess.run([str(part) for part in command], env=env, cwd=ROOT).returncode == 0


def stop(sentence: str) -> None:
    """End with one line that says what to do."""
    sys.exit(f"environment: {sentence}")


def with_a_new_python() -> None:
    """Go on with a newer Python from PATH when this one is too old."""
    if sys.version_info >= (3, 11):
        return
    for name in PYTHONS:
        program = shutil.which(name)
        if program:
            os.execv(program, [program, *sys.argv])
    stop(f"Python 3.11 or newer is needed and this is {sys.version.split()[0]}; install one and run again")


def pip_settings() -> dict[str, str]:
    """The user's pip options as pip would see them: configuration files first, then PIP_* variables."""
    home, etc = Path.home(), Path("/etc")
    config = Path(os.environ.get("XDG_CONFIG_HOME", home / ".config"))
    names = [etc / "xdg/pip/pip.conf", etc / "pip.conf", home / ".pip/pip.conf", config / "pip/pip.conf"]
    parser = configparser.RawConfigParser()
    parser.read([*names, os.environ.get("PIP_CONFIG_FILE", os.devnull)], encoding="utf-8")
    found = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for key, value in os.environ.items():
        if key.startswith("PIP_"):
            found[key[4:].lower().replace("_", "-")] = value
    return {key: value.strip() for key, value in found.items() if value.strip()}


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """The environment for uv: pip's settings in uv's words, where the user has not set uv's own."""
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **os.environ}  # hashes make any index safe
    for option, name in UV_NAMES.items():
        if option in settings and name not in os.environ:
            environment[name] = (",".join if option == "find-links" else " ".join)(settings[option].split())
    return environment


def pinned_pip() -> tuple[str, set[str]]:
    """The version of pip in the bootstrap lock, and the sha256 sums that may be installed."""
    entry = re.search(r"^pip==(\S+) \\\n((?:\s+--hash=sha256:\w+.*\n)+)", BOOTSTRAP.read_text(), flags=re.MULTILINE)
    if entry is None:
        raise RuntimeError(f"{BOOTSTRAP} does not pin pip")
    return entry.group(1), set(re.findall(r"sha256:(\w+)", entry.group(2)))


def offered_wheels(name: str, settings: dict[str, str]) -> Iterator[bytes]:
    """The bytes of the wheel ``name`` from each place of the user's settings that has it."""
    context = ssl.create_default_context(cafile=settings.get("cert"))
    for place in settings.get("find-links", "").split():
        if (Path(place) / name).is_file():
            yield (Path(place) / name).read_bytes()
    for index in settings.get("index-url", "").split() + settings.get("extra-index-url", "").split():
        page_url = index.rstrip("/") + "/pip/"
        try:
            page = fetch(page_url, context).decode("utf-8", "replace")
            link = re.search(r'href="([^"]*/' + re.escape(name) + r')(?:#[^"]*)?"', page)
            if link:
                yield fetch(urllib.parse.urljoin(page_url, link.group(1).replace("&amp;", "&")), context)
        except OSError as error:
            print(f"environment: a configured index did not answer ({error})", file=sys.stderr)


def fetch(url: str, context: ssl.SSLContext) -> bytes:
    """GET an http(s) address; a user and a password in it go into the header, never into a message."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise OSError("not an http address")
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    if user:
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return bytes(answer.read())


def pip_for(python: Path, scratch: Path, settings: dict[str, str]) -> list[object]:
    """A command that runs pip for the environment of ``python``: its own, the system's, or a wheel that was checked."""
    if subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0:
        return [python, "-m", "pip"]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--python", python]
    version, sums = pinned_pip()
    name = f"pip-{version}-py3-none-any.whl"
    for content in offered_wheels(name, settings):
        if hashlib.sha256(content).hexdigest() in sums:
            (scratch / name).write_bytes(content)
            return [python, scratch / name / "pip"]
        print(f"environment: {name} was refused, its sha256 is not the pinned one", file=sys.stderr)
    stop("no pip was found and no package index is configured: apt-get install python3-venv (or set PIP_INDEX_URL)")
    return []


def install(folder: Path, lock: Path) -> None:
    """Create the environment if it is not there, and bring it to the state of the lock."""
    python, settings = folder / "bin" / "python", pip_settings()
    if not python.exists():
        pip = [] if importlib.util.find_spec("ensurepip") else ["--without-pip"]
        if not run(sys.executable, "-m", "venv", *pip, folder):
            stop(f"{sys.executable} -m venv failed: apt-get install python3-venv")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    checked = ["--require-hashes", "--no-deps", "-r"]
    with tempfile.TemporaryDirectory() as scratch:
        if not run(*pip_for(python, Path(scratch), settings), "install", *quiet, *checked, BOOTSTRAP):
            stop("pip could not install tools/bootstrap.lock; its message is above")
    own = ["--no-deps", "--no-build-isolation", "-e", ROOT]
    uv = [folder / "bin" / "uv", "pip", "install", "--quiet", "--python", python]
    environment = uv_environment(settings)
    if run(*uv, "--no-build-isolation", *checked, lock, env=environment) and run(*uv, *own, env=environment):
        return
    print("environment: uv did not succeed, trying pip", file=sys.stderr)
    pip_command = [python, "-m", "pip", "install", *quiet]
    if not (run(*pip_command, "--no-build-isolation", *checked, lock) and run(*pip_command, *own)):
        stop(f"{lock.name} could not be installed; the message of pip is above")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        stop("usage: python3 tools/environment.py <folder> <lock file>")
    with_a_new_python()
    target = Path(sys.argv[1]).absolute()
    install(target, Path(sys.argv[2]).absolute())
    (target / "ready").touch()
