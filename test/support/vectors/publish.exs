# Run by bin/test --vectors when all of it is over: the file with what came of them.
[file] = System.argv()
Cryptoki.Test.Vectors.Report.publish(file)
