"""The Jobs API: shell commands that run on the cluster, with a life, a log and a name of their own.

    client = JobSubmissionClient("http://127.0.0.1:8265")
    job = client.submit_job(entrypoint="python train.py", runtime_env={"working_dir": "."})
    client.get_job_status(job)

client, http_client   what users hold: `raybook.job_submission`
server, handler, guard, websocket   the process that answers over HTTP, and whom it answers
manager             what becomes of each job; records: what is known of one; request: what may be asked
supervisor          the actor that runs one job's command
"""
