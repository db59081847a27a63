defmodule Cryptoki.Test.Nobody do
  @moduledoc false
  # Somebody who is not root: the user of this run, or `nobody` where that is root.

  alias Cryptoki.Test.Scratch

  @words ~w(setpriv --reuid=65534 --regid=65534 --clear-groups)

  @doc "Whether this run is root's."
  @spec root? :: boolean
  def root?, do: match?({"0\n", 0}, System.cmd("id", ["-u"]))

  @doc "What stands before a command for it to be run as that user."
  @spec words :: [String.t()]
  def words, do: if(root?(), do: @words, else: [])

  @doc "Why that cannot be done here, or false, for `@tag skip:`."
  @spec missing :: String.t() | false
  def missing do
    root?() and System.find_executable("setpriv") == nil and
      "there is no setpriv to be another user than root"
  end

  @doc "A home for that user, with the application in `cryptoki`: this project may be readable for its owner only."
  @spec home :: Path.t()
  def home do
    home = Scratch.directory("home")
    File.cp_r!(Application.app_dir(:cryptoki), Path.join(home, "cryptoki"))
    File.chmod!(home, 0o755)
    if root?(), do: File.chown!(home, 65534)
    home
  end
end
