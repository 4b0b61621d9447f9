"""Estimators of scikit-learn as model files: every one that is listed says what it says itself."""

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from sklearn import (
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from models.batch.output import read_output
from models.batch.run import BatchOptions, run_batch
from models.batch.score import Opening
from models.build import build
from models.errors import EstimatorUnreadable, EstimatorUnsupported, FileMissing
from models.estimators import (
    CLASSIFIERS,
    REGRESSORS,
    TRANSFORMERS,
    export_estimator,
    read_estimator,
)
from models.recipe import read_recipe
from models.runtimes.choose import open_model
from models.sklearn_onnx import FLOOR

FEATURES = 6
FEW = {"n_estimators": 5, "random_state": 0}
MADE: dict[str, Any] = {
    "AdaBoostClassifier": ensemble.AdaBoostClassifier(**FEW),
    "BaggingClassifier": ensemble.BaggingClassifier(**FEW),
    "BernoulliNB": naive_bayes.BernoulliNB(),
    "DecisionTreeClassifier": tree.DecisionTreeClassifier(max_depth=4, random_state=0),
    "ExtraTreesClassifier": ensemble.ExtraTreesClassifier(**FEW),
    "GaussianNB": naive_bayes.GaussianNB(),
    "GradientBoostingClassifier": ensemble.GradientBoostingClassifier(**FEW),
    "HistGradientBoostingClassifier": ensemble.HistGradientBoostingClassifier(max_iter=5),
    "KNeighborsClassifier": neighbors.KNeighborsClassifier(),
    "LinearDiscriminantAnalysis": discriminant_analysis.LinearDiscriminantAnalysis(),
    "LinearSVC": svm.LinearSVC(),
    "LogisticRegression": linear_model.LogisticRegression(),
    "MLPClassifier": neural_network.MLPClassifier(
        hidden_layer_sizes=(8,), max_iter=20, random_state=0
    ),
    "QuadraticDiscriminantAnalysis": discriminant_analysis.QuadraticDiscriminantAnalysis(),
    "RandomForestClassifier": ensemble.RandomForestClassifier(**FEW),
    "RidgeClassifier": linear_model.RidgeClassifier(),
    "SGDClassifier": linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "BayesianRidge": linear_model.BayesianRidge(),
    "DecisionTreeRegressor": tree.DecisionTreeRegressor(max_depth=4, random_state=0),
    "ElasticNet": linear_model.ElasticNet(0.1),
    "ExtraTreesRegressor": ensemble.ExtraTreesRegressor(max_depth=5, **FEW),
    "GradientBoostingRegressor": ensemble.GradientBoostingRegressor(**FEW),
    "HistGradientBoostingRegressor": ensemble.HistGradientBoostingRegressor(max_iter=5),
    "KNeighborsRegressor": neighbors.KNeighborsRegressor(),
    "Lasso": linear_model.Lasso(0.1),
    "LinearRegression": linear_model.LinearRegression(),
    "MLPRegressor": neural_network.MLPRegressor(
        hidden_layer_sizes=(8,), max_iter=20, random_state=0
    ),
    "RandomForestRegressor": ensemble.RandomForestRegressor(max_depth=5, **FEW),
    "Ridge": linear_model.Ridge(),
    "ColumnTransformer": compose.ColumnTransformer(
        [("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.MinMaxScaler(), [4])],
        remainder="passthrough",
    ),
    "FeatureUnion": pipeline.FeatureUnion(
        [("a", preprocessing.StandardScaler()), ("b", decomposition.PCA(2))]
    ),
    "MaxAbsScaler": preprocessing.MaxAbsScaler(),
    "MinMaxScaler": preprocessing.MinMaxScaler(),
    "Normalizer": preprocessing.Normalizer(),
    "PCA": decomposition.PCA(3),
    "PolynomialFeatures": preprocessing.PolynomialFeatures(),
    "PowerTransformer": preprocessing.PowerTransformer(),
    "RobustScaler": preprocessing.RobustScaler(),
    "SelectKBest": feature_selection.SelectKBest(k=3),
    "SimpleImputer": impute.SimpleImputer(),
    "StandardScaler": preprocessing.StandardScaler(),
    "TruncatedSVD": decomposition.TruncatedSVD(3),
    "VarianceThreshold": feature_selection.VarianceThreshold(),
}
random = np.random.default_rng(5)
X = random.normal(size=(300, FEATURES)).astype(np.float32)
TWO = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int)
THREE = (X @ random.normal(size=(FEATURES, 3))).argmax(axis=1)
AMOUNT = 2 * X[:, 0] - X[:, 1] + X[:, 2] ** 2
ASKED = random.normal(size=(200, FEATURES)).astype(np.float32)


def fitted(estimator: Any, y: npt.NDArray[Any], x: npt.NDArray[Any] = X) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations are enough here
        return estimator.fit(x, y)


def save(estimator: Any, folder: Path) -> Path:
    file = folder / "estimator.joblib"
    joblib.dump(estimator, file)
    return file


def answered(data: bytes, folder: Path, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    file = folder / "estimator.onnx"
    file.write_bytes(data)
    runtime = open_model(file, "onnx")
    (given,), (gives,) = runtime.inputs, runtime.outputs
    assert (given.name, given.dtype, given.shape) == ("x", "float32", (None, FEATURES))
    assert (gives.name, gives.dtype) == ("y", "float32")
    (said,) = runtime.run([rows])
    assert said.shape == (len(rows), gives.shape[1])
    found: npt.NDArray[np.float32] = said
    return found


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    parts = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = parts / parts.sum(axis=1, keepdims=True)
    return shares


def test_every_listed_estimator_is_tested_here() -> None:
    assert set(MADE) == {*TRANSFORMERS, *CLASSIFIERS, *REGRESSORS}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_softmax_of_an_exported_classifier_is_its_own_probability(
    name: str, classes: int, tmp_path: Path
) -> None:
    estimator = fitted(MADE[name], TWO if classes == 2 else THREE)
    exported = read_estimator(save(estimator, tmp_path))
    said = answered(exported.data, tmp_path, ASKED)
    assert (exported.features, exported.classes) == (FEATURES, ("0", "1", "2")[:classes])
    assert said.shape == (len(ASKED), classes)
    assert np.isfinite(said).all()
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_allclose(softmax(said), estimator.predict_proba(ASKED), atol=1e-5)
    elif classes == 2:
        scores = estimator.decision_function(ASKED)
        np.testing.assert_allclose(said[:, 1] - said[:, 0], scores, atol=1e-5)
    else:
        np.testing.assert_allclose(said, estimator.decision_function(ASKED), atol=1e-5)
    assert (said.argmax(axis=1) == estimator.predict(ASKED)).mean() > 0.99


@pytest.mark.parametrize("name", REGRESSORS)
def test_an_exported_regressor_gives_one_number_a_row(name: str, tmp_path: Path) -> None:
    estimator = fitted(MADE[name], AMOUNT)
    exported = read_estimator(save(estimator, tmp_path))
    said = answered(exported.data, tmp_path, ASKED)
    assert exported.classes == ()
    assert said.shape == (len(ASKED), 1)
    np.testing.assert_allclose(said[:, 0], estimator.predict(ASKED), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_an_exported_pipeline_transforms_as_it_did(name: str, tmp_path: Path) -> None:
    steps = pipeline.make_pipeline(MADE[name], linear_model.LogisticRegression())
    estimator = fitted(steps, THREE)
    said = answered(export_estimator(save(estimator, tmp_path)), tmp_path, ASKED)
    np.testing.assert_allclose(softmax(said), estimator.predict_proba(ASKED), atol=1e-5)


@pytest.mark.parametrize("y", [TWO, THREE])
def test_boosted_trees_after_pipelines_in_pipelines_are_exported_whole(
    y: npt.NDArray[Any], tmp_path: Path
) -> None:
    boosted = ensemble.HistGradientBoostingClassifier(max_iter=5)
    inner = pipeline.make_pipeline(preprocessing.StandardScaler(), "passthrough", boosted)
    estimator = fitted(pipeline.make_pipeline(preprocessing.RobustScaler(), inner), y)
    said = answered(export_estimator(save(estimator, tmp_path)), tmp_path, ASKED)
    np.testing.assert_allclose(softmax(said), estimator.predict_proba(ASKED), atol=1e-5)


def test_boosted_trees_take_missing_values_the_way_they_learned(tmp_path: Path) -> None:
    holes = X.copy()
    holes[::3, 0] = np.nan
    estimator = fitted(ensemble.HistGradientBoostingClassifier(max_iter=5), TWO, holes)
    asked = ASKED.copy()
    asked[:100, 0] = np.nan
    said = answered(export_estimator(save(estimator, tmp_path)), tmp_path, asked)
    np.testing.assert_allclose(softmax(said), estimator.predict_proba(asked), atol=1e-5)


def test_a_split_between_neighbouring_float32_keeps_them_apart(tmp_path: Path) -> None:
    """The threshold is half way, in float64; rounded to the nearest it would be the upper one."""
    upper = np.float32(1.5)
    x = np.full((200, FEATURES), upper, np.float32)
    x[:100, 0] = np.nextafter(upper, np.float32(0))
    estimator = fitted(
        ensemble.HistGradientBoostingClassifier(max_iter=5), np.arange(200) // 100, x
    )
    said = answered(export_estimator(save(estimator, tmp_path)), tmp_path, x)
    np.testing.assert_allclose(softmax(said), estimator.predict_proba(x), atol=1e-5)


def test_an_impossible_class_keeps_a_finite_logit(tmp_path: Path) -> None:
    estimator = fitted(tree.DecisionTreeClassifier(random_state=0), THREE)
    said = answered(export_estimator(save(estimator, tmp_path)), tmp_path, ASKED)
    assert said.min() == pytest.approx(np.log(FLOOR))


def test_classes_have_their_names_in_the_order_of_the_output(tmp_path: Path) -> None:
    names = np.array(["box", "tube", "bag"])
    estimator = fitted(linear_model.LogisticRegression(), names[THREE])
    exported = read_estimator(save(estimator, tmp_path))
    assert exported.classes == ("bag", "box", "tube")
    (prop,) = onnx.load_from_string(exported.data).metadata_props
    assert (prop.key, json.loads(prop.value)) == ("classes", ["bag", "box", "tube"])


def test_the_same_estimator_gives_the_same_bytes(tmp_path: Path) -> None:
    file = save(fitted(MADE["RandomForestClassifier"], TWO), tmp_path)
    assert export_estimator(file) == export_estimator(file)


RECIPE = """
task = "amounts"
input = {name = "row", dtype = "float32", shape = [6], layout = "C"}
answer = {kind = "classify", labels = ["0", "1", "2"]}
edge = {estimator = "small.joblib"}
cloud = {estimator = "large.joblib"}
"""


def test_a_package_of_estimators_scores_a_table_as_they_do(tmp_path: Path) -> None:
    small = fitted(
        pipeline.make_pipeline(MADE["StandardScaler"], MADE["LogisticRegression"]), THREE
    )
    large = fitted(MADE["RandomForestClassifier"], THREE)
    joblib.dump(small, tmp_path / "small.joblib")
    joblib.dump(large, tmp_path / "large.joblib")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    read = read_recipe(tmp_path / "recipe.toml")
    built = build(read.parts, read.version, tmp_path / "package")
    np.savez(tmp_path / "asked.npz", x=ASKED)
    for edge_only, estimator in ((True, small), (False, large)):  # uncalibrated: all are hard
        output = tmp_path / "said.jsonl"
        run_batch(BatchOptions(tmp_path / "asked.npz", output, built, Opening(edge_only=edge_only)))
        said = [one for piece in read_output(output) for one in piece]
        assert [one.label for one in said] == [str(one) for one in estimator.predict(ASKED)]
        tops = [np.nan if one.confidence is None else one.confidence for one in said]
        np.testing.assert_allclose(tops, estimator.predict_proba(ASKED).max(axis=1), atol=1e-5)


# What is refused.


def refused(estimator: Any, folder: Path) -> str:
    with pytest.raises(EstimatorUnsupported) as caught:
        export_estimator(save(estimator, folder))
    return str(caught.value)


def test_an_estimator_that_is_not_listed_is_refused_by_name(tmp_path: Path) -> None:
    said = refused(fitted(svm.SVC(), TWO), tmp_path)
    assert "SVC" in said
    assert "RandomForestClassifier" in said


def test_a_step_that_is_not_listed_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    binned = preprocessing.KBinsDiscretizer(quantile_method="averaged_inverted_cdf")
    columns = compose.ColumnTransformer([("bins", binned, [0])])
    steps = pipeline.make_pipeline(columns, linear_model.LogisticRegression())
    assert "KBinsDiscretizer" in refused(fitted(steps, TWO), tmp_path)


def test_a_function_of_somebody_is_refused(tmp_path: Path) -> None:
    steps = pipeline.make_pipeline(
        preprocessing.FunctionTransformer(np.log1p), linear_model.LogisticRegression()
    )
    assert "FunctionTransformer" in refused(fitted(steps, TWO, np.abs(X)), tmp_path)


def test_what_inside_an_ensemble_is_not_listed_is_refused(tmp_path: Path) -> None:
    bag = ensemble.BaggingClassifier(svm.SVC(), n_estimators=2)
    assert "svm._classes.SVC" in refused(fitted(bag, TWO), tmp_path)


def test_an_estimator_that_was_never_fitted_is_refused(tmp_path: Path) -> None:
    assert "not fitted" in refused(linear_model.LogisticRegression(), tmp_path)


def test_a_pipeline_that_predicts_nothing_is_refused(tmp_path: Path) -> None:
    steps = pipeline.make_pipeline(preprocessing.StandardScaler())
    assert "predicts nothing" in refused(steps.fit(X), tmp_path)


@pytest.mark.parametrize(
    "estimator", [linear_model.Ridge(), tree.DecisionTreeClassifier()], ids=["numbers", "classes"]
)
def test_several_outputs_are_refused(estimator: Any, tmp_path: Path) -> None:
    fitted(estimator, np.stack([TWO, THREE], axis=1))
    assert "several outputs" in refused(estimator, tmp_path)


def test_splits_on_categories_are_refused(tmp_path: Path) -> None:
    whole = random.integers(0, 9, size=(300, FEATURES)).astype(np.float32)
    boosted = ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features=[0, 1])
    estimator = fitted(boosted, (whole[:, 0] % 2).astype(int), whole)
    assert "categories" in refused(estimator, tmp_path)


def test_what_answers_otherwise_after_the_export_is_refused(tmp_path: Path) -> None:
    # exp(x) of the link is not in the trees, so the file gives other numbers than the estimator.
    boosted = ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=5)
    assert "otherwise" in refused(fitted(boosted, np.abs(AMOUNT)), tmp_path)


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"nothing\.joblib"):
        export_estimator(tmp_path / "nothing.joblib")


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(1)[:-1]])
def test_a_file_joblib_does_not_read_is_refused(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.joblib"
    file.write_bytes(data)
    with pytest.raises(EstimatorUnreadable, match="save it again"):
        export_estimator(file)


def test_a_file_that_holds_no_estimator_is_refused(tmp_path: Path) -> None:
    assert "builtins.dict" in refused({"weights": [1, 2]}, tmp_path)


def test_exporting_switches_telemetry_off_before_anything_could_ask(tmp_path: Path) -> None:
    file = save(fitted(linear_model.LogisticRegression(), TWO), tmp_path)
    program = (
        "import os, pathlib, sys; from models.estimators import export_estimator;"
        "export_estimator(pathlib.Path(sys.argv[1])); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(file)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.returncode) == ("1", 0), done.stderr
