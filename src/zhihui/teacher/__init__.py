"""Teachers: questions to an LLM become answers of a schema, each paid for once, within a budget."""

from zhihui.teacher.asking import Ask, Failure, Outcome, Role, Teacher
from zhihui.teacher.batch import BatchCounts, read_batch, write_batch
from zhihui.teacher.client import ApiTeacher, Estimate
from zhihui.teacher.config import Budget, Endpoint, Limits, Parameters, Price, TeacherConfig
from zhihui.teacher.recording import RecordedTeacher, RecordingTeacher, write_recording

__all__ = [
    "ApiTeacher",
    "Ask",
    "BatchCounts",
    "Budget",
    "Endpoint",
    "Estimate",
    "Failure",
    "Limits",
    "Outcome",
    "Parameters",
    "Price",
    "RecordedTeacher",
    "RecordingTeacher",
    "Role",
    "Teacher",
    "TeacherConfig",
    "read_batch",
    "write_batch",
    "write_recording",
]
