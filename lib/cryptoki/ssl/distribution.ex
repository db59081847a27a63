defmodule Cryptoki.SSL.Distribution do
  @moduledoc false
  # What nodes need to talk TLS to each other. Read while a node starts: kernel has begun, the server of files has
  # not, and no application is there.

  alias Cryptoki.{Certificates, Error}
  alias Cryptoki.Options.Table

  # The largest file that is taken for certificates.
  @bytes 1_048_576
  # Keys that TLS 1.2 of :ssl does not take.
  @only_newest [:eddsa, :mldsa, :slhdsa]

  @file_of [cast: &__MODULE__.path/1, must: "the name of a file", type: "Path.t()", needed: true]

  @doc "The options of `Cryptoki.SSL.distribution/3`."
  @spec options() :: Table.t()
  def options do
    [
      certfile:
        @file_of ++
          [doc: "PEM: the certificate of the key, then those above it, without the root"],
      cacertfile: @file_of ++ [doc: "PEM: the certificates that those of the nodes lead to"],
      ssl: [
        cast: &(Keyword.keyword?(&1) and {:ok, &1}),
        must: "a keyword list",
        type: "keyword",
        default: [],
        doc: "more options of `:ssl` for both sides, in the place of those that are here"
      ]
    ]
  end

  @doc "A path, as Elixir has text or as Erlang has."
  @spec path(term) :: Table.casted()
  def path(path) do
    path = IO.chardata_to_string(path)
    path != "" and not String.contains?(path, <<0>>) and {:ok, path}
  rescue
    _no_text -> false
  end

  @doc "Nodes that are not connected yet call no instance of another node."
  @spec name!(term) :: :ok
  def name!(name) when is_atom(name) and name not in [nil, true, false], do: :ok

  def name!(_other) do
    raise ArgumentError,
          "name: must be that of an instance of this node, an atom: it is looked for by each signature"
  end

  @doc "The certificates of a file, as DER; the argument names it in errors."
  @spec certificates(Path.t(), String.t()) :: {:ok, [binary, ...]} | {:error, Error.t()}
  def certificates(path, argument) do
    with {:ok, bytes} <- read(path, argument),
         do: Certificates.fetch(nil, [bytes], argument <> " " <> path)
  end

  # Raw: who reads files for others is started later.
  defp read(path, argument) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]),
         {:ok, bytes} <- content(file) do
      {:ok, bytes}
    else
      {:error, reason} -> no(argument, path, to_string(:file.format_error(reason)))
      :eof -> no(argument, path, "the file is empty")
    end
  end

  defp content(file) do
    :file.read(file, @bytes)
  after
    :file.close(file)
  end

  defp no(argument, path, text),
    do: {:error, Error.new(:invalid_argument, "#{argument} #{path}: #{text}")}

  @doc "What a server and a client of the distribution want to know."
  @spec sides(map, keyword) :: keyword
  def sides(entry, own) do
    both = [
      certs_keys: [entry],
      cacertfile: own[:cacertfile],
      verify: :verify_peer,
      versions: versions(entry.key.algorithm)
    ]

    both = Keyword.merge(both, own[:ssl])
    [server: Keyword.put_new(both, :fail_if_no_peer_cert, true), client: client(both)]
  end

  defp client(both), do: Keyword.delete(both, :fail_if_no_peer_cert)

  defp versions(algorithm) when algorithm in @only_newest, do: [:"tlsv1.3"]
  defp versions(_algorithm), do: [:"tlsv1.3", :"tlsv1.2"]
end
