"""Code of a process that runs until SIGINT, and writes that it is ready and then what it gets into a file."""

PATIENT = """
import pathlib, signal, sys, time
from trainer.experiments.running.processes import follow_parent
signals = pathlib.Path(sys.argv[1])
def stop(number, frame):
    with signals.open("a") as file:
        file.write("INT\\n")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
follow_parent()
signals.write_text("ready\\n")
while True:
    time.sleep(0.05)
"""
