"""Development tasks. `nox -l` lists them; `nox -s tests` runs every project's tests."""

import os
import re
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"  # pip, because uv does not read pip's find-links
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

# Directories such as "packages/bpe": strings, because nox writes session parameters as JSON.
PROJECTS = sorted(path.parent.as_posix() for path in Path().glob("*/*/pyproject.toml"))
PYPROJECT = {project: tomllib.loads(Path(project, "pyproject.toml").read_text("utf-8")) for project in PROJECTS}
DIRECTORY = {PYPROJECT[project]["project"]["name"]: project for project in PROJECTS}
REPOSITORY = "."  # the checks of the repository as a whole, in tests/
CONSTRAINTS = "--constraint=constraints.txt"
# Python compiles, and caches, what it imports; compiling all of torch would take 14 s for each environment.
NO_COMPILE, CACHED = "--no-compile", {"PYTHONDONTWRITEBYTECODE": ""}
SOURCES = os.pathsep.join(str(Path(project, "src").resolve()) for project in PROJECTS)


def every(projects: list[str]) -> object:
    """Make one session per project, named by its folder: `nox -s "tests(bpe)"`."""
    ids = ["repository" if project == REPOSITORY else Path(project).name for project in projects]
    return nox.parametrize(
        "project", [nox.param(project, id=name) for project, name in zip(projects, ids, strict=True)]
    )


def run(session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
    """Run a command that may take a minute to end after Ctrl-C.

    A training run finishes its step and saves. By default nox sends SIGTERM after 0.3 s, which the trainer takes for a
    second request to stop, at once and without saving.
    """
    session.run(*command, interrupt_timeout=60, terminate_timeout=60, env=CACHED | (env or {}))


def requirement_name(requirement: str) -> str:
    """Return the distribution that a requirement such as `torch>=2.6` names."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]


def with_siblings(requirement: str) -> dict[str, str]:
    """Return {directory: requirement} for a project of this repository and the siblings that it depends on.

    pip cannot find siblings by itself, because they are on no index. All their paths therefore go into one command.
    """
    name = requirement_name(requirement)
    extras = match[0] if (match := re.search(r"\[.*?\]", requirement)) else ""
    found = {DIRECTORY[name]: f"./{DIRECTORY[name]}{extras}"}
    for dependency in PYPROJECT[DIRECTORY[name]]["project"]["dependencies"]:
        if requirement_name(dependency) in DIRECTORY:
            found |= with_siblings(dependency)
    return found


def install(session: nox.Session, *projects: str, group: str | None = "test", others: tuple[str, ...] = ()) -> None:
    """Install wheels of projects and of their siblings, one of the dependency groups of each, and other packages."""
    wheels: dict[str, str] = {}
    for project in projects:
        wheels |= with_siblings(PYPROJECT[project]["project"]["name"])
    groups = [f"--group={project}/pyproject.toml:{group}" for project in projects if group]
    session.install(NO_COMPILE, *wheels.values(), *groups, *others, CONSTRAINTS)


@nox.session
@every([*PROJECTS, REPOSITORY])
def tests(session: nox.Session, project: str) -> None:
    """Test one project as its users install it: from its wheel, with only the dependencies it declares."""
    if project == REPOSITORY:
        session.install("pytest", "nox", CONSTRAINTS)
        run(session, "pytest", "tests", "--ignore=tests/docs", *session.posargs)
        return
    install(session, project, others=("pytest-xdist",))
    # Two processes, each file in one of them, with one thread for torch in each.
    options = ["--numprocesses=2", "--dist=loadfile"]
    run(session, "pytest", f"{project}/tests", *options, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting, lint, which room imports which, and the rules of checks/house.py."""
    session.install("ruff", "import-linter", CONSTRAINTS)
    run(session, "ruff", "format", "--check", ".")
    run(session, "ruff", "check", ".")
    run(session, "lint-imports", "--no-cache", "--no-logo", env={"PYTHONPATH": SOURCES})
    run(session, "python", "checks/house.py")


@nox.session
def types(session: nox.Session) -> None:
    """Type-check every package; each public signature must be annotated in full."""
    projects = [f"./{project}" for project in PROJECTS]
    session.install(NO_COMPILE, "mypy", *projects, "matplotlib", "starlette", "uvicorn", CONSTRAINTS)
    for project in PROJECTS:
        run(session, "mypy", f"{project}/src")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site into site/, strictly and without a network; `-- serve` shows it instead."""
    session.install("mkdocs-material", "mkdocstrings-python", "math-core", "ruff", CONSTRAINTS)
    options = session.posargs or ["build", "--strict", "--quiet"]
    run(session, "mkdocs", *options, env={"NO_MKDOCS_2_WARNING": "1"})  # Material advertises its successor


@nox.session(default=False, requires=["docs"])
def docs_tests(session: nox.Session) -> None:
    """Test the site, which `docs` builds first, each command of its guides, and the notebooks with small settings."""
    paths = [f"./{project}" for project in PROJECTS]
    extras = {"./packages/nnscratch": "[gguf]", "./packages/trainer": "[experiments,hub,plots]"}
    peers = ["tiktoken", "tokenizers", "transformers"]
    tools = ["mkdocs", "math-core", "selenium", "nbclient", "ipykernel", "pytest", "pytest-xdist"]
    session.install(NO_COMPILE, *(path + extras.get(path, "") for path in paths), *peers, *tools, CONSTRAINTS)
    options = ["--numprocesses=2", "--dist=worksteal"]
    run(session, "pytest", "tests/docs", *options, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
@every(PROJECTS)
def minimums(session: nox.Session, project: str) -> None:
    """Test one project with the oldest dependencies that it and its siblings declare; all else stays as pinned."""
    pinned = {
        requirement_name(line): line for line in re.findall(r"^\w.*$", Path("constraints.txt").read_text("utf-8"), re.M)
    }
    for name in ("llvmlite", "transformers", "huggingface-hub", "tokenizers"):  # which choose for themselves
        del pinned[name]
    lowest = {"torch": pinned.pop("torch")}
    for directory in with_siblings(PYPROJECT[project]["project"]["name"]):
        metadata = PYPROJECT[directory]["project"]
        extras = [item for extra in metadata.get("optional-dependencies", {}).values() for item in extra]
        for requirement in metadata["dependencies"] + extras:
            name, bound = requirement_name(requirement), re.search(r">=([\w.]+)", requirement)
            if name not in DIRECTORY and name not in lowest and bound:
                lowest[name] = f"{name}=={bound[1]}"
    file = Path(session.create_tmp(), "lowest.txt")
    file.write_text("\n".join({**pinned, **lowest}.values()) + "\n", encoding="utf-8")
    # transformers needs a newer regex, or else an older tokenizers; datatrove needs a newer numpy. Tests that need them
    # are skipped then.
    peers = PYPROJECT[project]["dependency-groups"]["test"]
    newer = ("transformers", "datatrove") if "regex" in lowest else ()
    peers = [peer for peer in peers if requirement_name(peer) not in newer]
    own = with_siblings(PYPROJECT[project]["project"]["name"]).values()
    session.install(*own, *peers, f"--constraint={file}")
    run(session, "pytest", f"{project}/tests", "-Wdefault", *session.posargs)  # old versions warn about newer ones


@nox.session(default=False)
@nox.parametrize("mode", [nox.param(mode, id=mode) for mode in ("boundscheck", "interpreted", "aarch64")])
def kernels(session: nox.Session, mode: str) -> None:
    """Test the kernels of bpe with every index checked, run by the interpreter, or emulated (on smaller inputs)."""
    install(session, "packages/bpe")
    if mode == "aarch64":
        session.install("unicorn")
        run(session, "python", "packages/bpe/checks/aarch64.py")
        return
    variable = {"boundscheck": "NUMBA_BOUNDSCHECK", "interpreted": "NUMBA_DISABLE_JIT"}[mode]
    # Machine code of its own, wherever a test goes.
    folder = Path(session.create_tmp(), "numba-cache").resolve()
    run(session, "pytest", "packages/bpe/tests", *session.posargs, env={variable: "1", "NUMBA_CACHE_DIR": str(folder)})


@nox.session(default=False)
@nox.parametrize("what", [nox.param(what, id=what) for what in ("encoding", "families", "training")])
def fuzz(session: nox.Session, what: str) -> None:
    """Compare bpe with other libraries and with its reference on generated input: a million strings, 5,000 corpora."""
    install(session, "packages/bpe")
    run(session, "python", f"packages/bpe/checks/fuzz_{what}.py", *session.posargs)


@nox.session(default=False)
def lowered(session: nox.Session) -> None:
    """Compile a training graph of nnscratch for an H100 that need not be present, and count buffers and launches.

    Without arguments the tests of this kind that `tests` leaves out come first.
    """
    install(session, "packages/nnscratch")
    if not session.posargs:
        run(session, "pytest", "packages/nnscratch/tests", "-m", "slow")
    run(session, "python", "packages/nnscratch/checks/lowered_for_cuda.py", *session.posargs)


@nox.session(default=False)
def harness(session: nox.Session) -> None:
    """Test the adapter of nnscratch in lm-evaluation-harness itself, whose many packages no other test needs."""
    install(session, "packages/nnscratch", others=("lm_eval",))
    run(session, "pytest", "packages/nnscratch/tests/evaluation", *session.posargs, env={"HF_HUB_OFFLINE": "1"})


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """Test what runs on many machines: bpe's steps for datatrove and experiments, on Ray with workers that are lost."""
    install(session, "packages/bpe", "apps/tinystories", others=("ray",))
    run(session, "pytest", "packages/bpe/tests/cluster", *session.posargs)
    run(session, "pytest", "packages/trainer/tests/experiments/running/test_ray_engine.py", *session.posargs)
    run(session, "pytest", "apps/tinystories/tests/sweeps/test_on_ray.py", *session.posargs)


@nox.session(default=False)
def kills(session: nox.Session) -> None:
    """Kill training runs 100 times, in every phase, and compare their ends with those of runs that were left alone."""
    install(session, "packages/trainer")
    run(session, "python", "packages/trainer/checks/kills.py", *session.posargs)


@nox.session(default=False)
def disk_faults(session: nox.Session) -> None:
    """Make system calls of training runs on their files fail, one at a time, and check that nothing is lost."""
    install(session, "packages/trainer")
    run(session, "python", "packages/trainer/checks/disk_faults.py", *session.posargs)


@nox.session(default=False)
def clock(session: nox.Session) -> None:
    """Hold four 3-minute runs to their limit: alone, beside a busy program, stopped for 20 s, killed and resumed."""
    install(session, "apps/owt-leaderboard")
    run(session, "python", "apps/owt-leaderboard/checks/clock.py", *session.posargs)


@nox.session(default=False)
@every([project for project in PROJECTS if Path(project, "benchmarks").is_dir()])
def bench(session: nox.Session, project: str) -> None:
    """Measure one project against its peers, in one run, and print the ratios."""
    group = "bench" if "bench" in PYPROJECT[project]["dependency-groups"] else "test"
    install(session, project, group=group)
    options = []
    if (
        "bench-candidate" in PYPROJECT[project]["dependency-groups"]
    ):  # another version of a peer, in a worker of its own
        folder = Path(session.create_tmp(), "candidate").resolve()
        session.run("python", "-m", "venv", "--without-pip", str(folder), silent=True)
        candidate = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        group = f"--group={project}/pyproject.toml:bench-candidate"
        session.run("python", "-m", "pip", "--quiet", f"--python={candidate}", "install", group)
        options = [f"--candidate={candidate}"]
    run(session, "python", f"{project}/benchmarks/run.py", *options, *session.posargs)


@nox.session(default=False)
def cpu_minutes(session: nox.Session) -> None:
    """Train the recipe of an app, of nanoGPT or of nanochat for minutes on a CPU; arguments after -- choose it."""
    install(session, "apps/owt-leaderboard", "apps/tinystories", group=None)
    run(session, "python", "apps/owt-leaderboard/benchmarks/cpu_minutes.py", *session.posargs)


@nox.session(default=False)
@every(PROJECTS)
def build(session: nox.Session, project: str) -> None:
    """Build one project's source distribution and wheel into dist/, and check their metadata."""
    session.install("build", "twine")
    name = PYPROJECT[project]["project"]["name"].replace("-", "_")
    run(session, "python", "-m", "build", "--outdir=dist", project)
    run(session, "twine", "check", *map(str, Path("dist").glob(f"{name}-*")))


@nox.session(default=False, venv_backend="none")
def dev(session: nox.Session) -> None:
    """Make .venv: every project, editable, with all test dependencies and the tools."""
    python = Path(".venv", "Scripts" if sys.platform == "win32" else "bin", "python")
    run(session, sys.executable, "-m", "venv", ".venv")
    run(session, python, "-m", "pip", "install", "--upgrade", "pip>=25.1")
    editable = [item for project in PROJECTS for item in ("--editable", f"./{project}")]
    groups = [f"--group={project}/pyproject.toml:test" for project in PROJECTS]
    run(session, python, "-m", "pip", "install", *editable, *groups, "nox", "ruff", "mypy", CONSTRAINTS)


@nox.session(default=False)
def ablations(session: nox.Session) -> None:
    """The main job: install what it needs and run the ablations; arguments after -- are passed on."""
    install(session, "apps/tinystories", group=None)
    run(session, "python", "-m", "tinystories.run", "ablations", *session.posargs)
