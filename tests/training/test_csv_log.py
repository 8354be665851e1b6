"""The log appends, survives a cut line, and forgets what will be written again."""

from lexiseg.training.csv_log import CsvLog


def test_append_and_rewind(tmp_path):
    log = CsvLog(tmp_path)
    for step in range(5):
        log.log_metrics({"loss": 0.5 * step, "epoch": 0}, step)
    with log.path.open("a") as file:
        file.write("5,lo")  # what a kill leaves
    again = CsvLog(tmp_path)
    again.rewind(3)
    again.log_metrics({"loss": 9.0}, 3)
    assert log.path.read_text().splitlines() == [
        "step,name,value",
        "0,loss,0.0",
        "1,loss,0.5",
        "2,loss,1.0",
        "3,loss,9.0",
    ]


def test_rewind_without_a_file(tmp_path):
    CsvLog(tmp_path).rewind(3)
    assert not list(tmp_path.iterdir())
