class EchoApi:
    name = "echo_api"
    batch_records_max = 100

    def __init__(self, *a: object) -> None: ...
