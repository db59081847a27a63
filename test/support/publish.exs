# Run by bin/test --safety when all of it is over: the file with what was reached.
[file] = System.argv()
Cryptoki.Test.Reliability.publish(file)
