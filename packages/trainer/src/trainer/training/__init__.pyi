from trainer.training.clock import RunClock as RunClock
from trainer.training.compilation import CompiledUpdate as CompiledUpdate
from trainer.training.loop import TrainingLoop as TrainingLoop
from trainer.training.rates import check_schedules as check_schedules
