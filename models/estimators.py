"""scikit-learn estimators as model files: one float32 input `x` [n, k], one float32 output `y`.

Loading a file that joblib wrote runs whatever code is in it, so this is for files of one's own.

Rules:
1. Only classes of scikit-learn that are listed here, and tested, are exported; any other is
   refused by name, wherever in a pipeline it stands.
2. A classifier gives [n, K], in the order of its `classes_`, so that the softmax of a row is the
   estimator's own `predict_proba`: its decision scores where these are logits, else the logarithms
   of its probabilities, none below `sklearn_onnx.FLOOR`. One without `predict_proba` gives its
   decision scores; of two classes -s/2 and s/2.
3. A regressor gives [n, 1].
4. What was exported is run beside the estimator on drawn rows. Too many other answers, and it is
   refused: not every option of every estimator survives the export.
"""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import EstimatorUnreadable, EstimatorUnsupported, ExtraMissing, FileMissing
from models.runtimes.choose import open_model
from models.sklearn_onnx import Ending, convert

TRANSFORMERS = (
    "ColumnTransformer",
    "FeatureUnion",
    "MaxAbsScaler",
    "MinMaxScaler",
    "Normalizer",
    "PCA",
    "PolynomialFeatures",
    "PowerTransformer",
    "RobustScaler",
    "SelectKBest",
    "SimpleImputer",
    "StandardScaler",
    "TruncatedSVD",
    "VarianceThreshold",
)
CLASSIFIERS = (
    "AdaBoostClassifier",
    "BaggingClassifier",
    "BernoulliNB",
    "DecisionTreeClassifier",
    "ExtraTreesClassifier",
    "GaussianNB",
    "GradientBoostingClassifier",
    "HistGradientBoostingClassifier",
    "KNeighborsClassifier",
    "LinearDiscriminantAnalysis",
    "LinearSVC",
    "LogisticRegression",
    "MLPClassifier",
    "QuadraticDiscriminantAnalysis",
    "RandomForestClassifier",
    "RidgeClassifier",
    "SGDClassifier",
)
REGRESSORS = (
    "BayesianRidge",
    "DecisionTreeRegressor",
    "ElasticNet",
    "ExtraTreesRegressor",
    "GradientBoostingRegressor",
    "HistGradientBoostingRegressor",
    "KNeighborsRegressor",
    "Lasso",
    "LinearRegression",
    "MLPRegressor",
    "RandomForestRegressor",
    "Ridge",
)
_LOGITS = (
    "GradientBoostingClassifier",
    "HistGradientBoostingClassifier",
    "LinearDiscriminantAnalysis",
    "LogisticRegression",
)
"""Those whose `predict_proba` is the softmax of `decision_function`, of two classes the sigmoid."""
_SCALES = (0.5, 1.0, 3.0, 10.0)
_DRAWN = 64
_NEAR = 1e-3
_LEAST_AGREEMENT = 0.9
Rows = npt.NDArray[np.float32]
Said = npt.NDArray[np.float64]


class Exported(NamedTuple):
    """An estimator as an ONNX file, and what it is about."""

    data: bytes
    features: int
    """k: how many numbers one sample has."""
    classes: tuple[str, ...]
    """In the order of the output, which a package's labels must follow; empty for a regressor."""


def export_estimator(path: Path) -> bytes:
    """The ONNX file of an estimator or pipeline saved by joblib; loading it runs its code.

    Raises `FileMissing`, `EstimatorUnreadable`, `EstimatorUnsupported`, `ExtraMissing`.
    """
    return read_estimator(path).data


def read_estimator(path: Path) -> Exported:
    """As `export_estimator`, with the number of features and the names of the classes."""
    estimator = _load(path)
    for part in _parts(estimator):
        _check_listed(part)
    final = _final(estimator)
    _check_fitted(estimator, final)
    features, rows = int(estimator.n_features_in_), _drawn(int(estimator.n_features_in_))
    classes = tuple(map(str, getattr(final, "classes_", ())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about each other
        wanted = _own(estimator, final, rows)
        try:
            data = convert(estimator, final, _ending(final), width=wanted.shape[1])
        except ModuleNotFoundError as error:
            raise _extra_missing(error) from error
    _check_agreement(type(final).__name__, wanted, _exported(data, rows, softmax=bool(classes)))
    return Exported(data, features, classes)


def _load(path: Path) -> Any:
    try:
        import joblib  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise _extra_missing(error) from error
    if not path.is_file():
        raise FileMissing(f"{path} is not there; save the estimator there with joblib.dump first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells of another version; drawn rows tell more
            return joblib.load(path)
    except Exception as error:
        raise EstimatorUnreadable(
            f"{path} is no estimator that joblib reads here: {type(error).__name__}: {error}; "
            "save it again with joblib.dump, from an environment with this scikit-learn"
        ) from error


def _extra_missing(error: ModuleNotFoundError) -> ExtraMissing:
    return ExtraMissing(f"{error}; estimators need the extra `models`: install longstop[models]")


def _parts(estimator: Any) -> Iterator[Any]:
    """Everything that computes in it, with what stands inside others."""
    inner: list[Any] = []
    match type(estimator).__name__:
        case "Pipeline":
            inner = [step for _, step in estimator.steps]
        case "FeatureUnion":
            inner = [step for _, step in estimator.transformer_list]
        case "ColumnTransformer":
            inner = [step for _, step, _ in getattr(estimator, "transformers_", ())]
        case "AdaBoostClassifier" | "BaggingClassifier":
            inner = list(getattr(estimator, "estimators_", ()))
    if type(estimator).__name__ != "Pipeline":
        yield estimator
    for step in inner:
        if step is not None and not isinstance(step, str):  # "passthrough", "drop"
            yield from _parts(step)


def _check_listed(part: Any) -> None:
    listed = TRANSFORMERS + CLASSIFIERS + REGRESSORS
    kind = type(part)
    ours = kind.__module__.startswith("sklearn.")
    # What a column transformer passes through is a function transformer without a function.
    passes = kind.__name__ == "FunctionTransformer" and getattr(part, "func", "") is None
    if not (ours and (kind.__name__ in listed or passes)):
        raise EstimatorUnsupported(
            f"{kind.__module__}.{kind.__name__} cannot be exported; use one of "
            f"{', '.join(listed)}, or export it to ONNX yourself and name the file as `model`"
        )


def _final(estimator: Any) -> Any:
    """The last step of a pipeline, or the estimator itself."""
    while type(estimator).__name__ == "Pipeline":
        estimator = estimator.steps[-1][1]
    return estimator


def _check_fitted(estimator: Any, final: Any) -> None:
    kind = type(final).__name__
    if kind not in CLASSIFIERS + REGRESSORS:
        raise EstimatorUnsupported(
            f"it ends in {kind}, which predicts nothing; end it in one of "
            f"{', '.join(CLASSIFIERS + REGRESSORS)}"
        )
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(final)
        _ = estimator.n_features_in_
    except (NotFittedError, AttributeError) as error:
        raise EstimatorUnsupported(f"{kind} is not fitted: {error}; fit it and save it") from error


def _ending(final: Any) -> Ending:
    """What its file is to be made of."""
    if not hasattr(final, "classes_"):
        return "values"
    if not hasattr(final, "predict_proba"):
        return "logits"
    logits = type(final).__name__ in _LOGITS and getattr(final, "loss", "log_loss") == "log_loss"
    return "logits" if logits else "probabilities"


def _own(estimator: Any, final: Any, rows: Rows) -> Said:
    """What the estimator says to rows [n, k]: probabilities [n, K], or values [n, 1]."""
    if hasattr(estimator, "predict_proba"):
        said = estimator.predict_proba(rows)
    elif hasattr(final, "classes_"):
        scores = estimator.decision_function(rows)
        said = _softmax(scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1) / 2)
    else:
        said = estimator.predict(rows)
        said = said.reshape(-1, 1) if said.ndim == 1 else said
    if isinstance(said, list) or (not hasattr(final, "classes_") and said.shape[1] != 1):
        raise EstimatorUnsupported(
            f"{type(final).__name__} has several outputs; fit and export one estimator for each"
        )
    return np.asarray(said, np.float64)


def _drawn(features: int) -> Rows:
    """Rows of several sizes: what the estimator was fitted on is not in its file."""
    random = np.random.default_rng(0)
    drawn = [random.normal(scale=scale, size=(_DRAWN, features)) for scale in _SCALES]
    return np.concatenate(drawn).astype(np.float32)


def _exported(data: bytes, rows: Rows, *, softmax: bool) -> Said:
    with tempfile.TemporaryDirectory(prefix="longstop-estimator.") as folder:
        file = Path(folder) / "estimator.onnx"
        file.write_bytes(data)
        (said,) = open_model(file, "onnx").run([rows])
    return _softmax(said) if softmax else np.asarray(said, np.float64)


def _check_agreement(kind: str, wanted: Said, found: Said) -> None:
    """Raises `EstimatorUnsupported` if the file answers otherwise than the estimator.

    Some rows may differ: near a split of a tree, or between two neighbours equally far, float32 and
    float64 go different ways.
    """
    near = np.abs(found - wanted) <= _NEAR * np.maximum(1.0, np.abs(wanted))
    agree = near.all(axis=1).mean()
    if agree < _LEAST_AGREEMENT:
        raise EstimatorUnsupported(
            f"{kind} with these options answers otherwise after the export, on {1 - agree:.0%} of "
            f"{len(wanted)} drawn rows; fit it with its usual options, or export it to ONNX "
            "yourself and name the file as `model`"
        )


def _softmax(logits: npt.NDArray[Any]) -> Said:
    wide = logits.astype(np.float64)
    parts = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: Said = parts / parts.sum(axis=1, keepdims=True)
    return shares
