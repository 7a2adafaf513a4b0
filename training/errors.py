"""What can go wrong on the way from data to a model version."""


class TrainingError(Exception):
    """Base of all errors of training and evaluation."""

    code = "training_error"


class AnnotationError(TrainingError):
    """A block or line of data that does not follow the annotation rules; the text names file and line."""

    code = "bad_annotation"


class MissingCard(TrainingError):
    """A version that is to be published without its papers."""

    code = "missing_card"
