defmodule Cryptoki.Import.Certificate do
  @moduledoc false
  # A certificate of a file onto a token, with the names that others find it by.

  alias Cryptoki.{Attribute, Call, Error, HSM, Key, Keys, Options}
  alias Cryptoki.Import.Template
  alias Cryptoki.X509.Fields

  @spec import_certificate(Cryptoki.hsm(), term, Attribute.template(), keyword | map) ::
          {:ok, Key.t()} | {:error, Error.t()}
  def import_certificate(hsm, certificate, template, opts) do
    options = Options.call!(opts, [:timeout, :metadata])
    certificate = given!(certificate)
    _ = Attribute.encode!(template)

    with {:ok, target} <- HSM.target(hsm, options),
         {:ok, der} <- only(certificate),
         {:ok, fields} <- Fields.read(der),
         {:ok, handle} <-
           Call.run(target, {:create, Template.certificate(der, fields, template)}),
         do: Keys.made(target, handle)
  end

  @doc "Raises `ArgumentError` for what can be no file."
  @spec given!(term) :: binary
  def given!(bytes) when is_binary(bytes), do: bytes
  def given!(_other), do: raise(ArgumentError, "certificate: must be DER or PEM")

  # A name is for one.
  defp only(bytes) do
    case Fields.ders(bytes, "certificate") do
      {:ok, [der]} ->
        {:ok, der}

      {:ok, several} ->
        text =
          "certificate: there are #{length(several)} in it: give each a name of its own (`:public_key.pem_decode/1` takes them apart)"

        {:error, Error.new(:invalid_argument, text)}

      {:error, _error} = error ->
        error
    end
  end
end
